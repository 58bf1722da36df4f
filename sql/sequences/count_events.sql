CREATE OR REPLACE TEMP TABLE counted AS
SELECT user_id, count(*) AS events, count(*) FILTER (WHERE is_target AND weight > 0) AS targets FROM valued($end_time) GROUP BY user_id;
