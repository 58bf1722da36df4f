CREATE OR REPLACE TEMP TABLE counted AS
SELECT user_id, count(*) AS events FROM valued($end_time) GROUP BY user_id;
