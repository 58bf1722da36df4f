-- Events as the model takes them, of data with an order and no times: a user's steps are a day apart, so that what decays
-- by days decays by steps.
CREATE OR REPLACE TEMP MACRO valued(end_time) AS TABLE
SELECT * REPLACE (
    TIMESTAMP '2000-01-01'
        + to_days(CAST(dense_rank() OVER (PARTITION BY user_id ORDER BY event_time) - 1 AS INTEGER)) AS event_time
)
FROM meant(end_time);
