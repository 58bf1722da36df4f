-- What is left of the events of an item that its user has returned in part or whole: a return (a negative weight) takes
-- back from the newest of the events before it that are of a target type (nobody returns a view), and what nobody had
-- cannot be returned. With S the units held after each event, an event of w units keeps what S never falls below again:
-- least(w, least S from here on - S before it). A millionth of the most that was held is what rounding leaves of weights
-- such as 0.1 + 0.6 - 0.7, and counts as nothing.
CREATE OR REPLACE TEMP TABLE taken_back AS
WITH paths AS (
    SELECT
        user_id, item_id, event_time, event_type, weight,
        sum(weight) OVER so_far AS total,
        row_number() OVER by_time AS place
    FROM interactions
    INNER JOIN meanings AS m USING (event_type)
    SEMI JOIN (
        SELECT DISTINCT user_id, item_id FROM interactions WHERE weight < 0 AND event_time < $end_time
    ) AS r USING (user_id, item_id)
    WHERE event_time < $end_time AND (weight < 0 OR m.is_target)
    WINDOW
        by_time AS (PARTITION BY user_id, item_id ORDER BY event_time, weight DESC, event_type),
        so_far AS (
            PARTITION BY user_id, item_id ORDER BY event_time, weight DESC, event_type
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
),

held AS (
    SELECT
        * EXCLUDE (total),
        total - least(0, min(total) OVER (
            PARTITION BY user_id, item_id ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )) AS units
    FROM paths
)

SELECT
    user_id, item_id, event_time, event_type,
    CASE WHEN later - before > 1e-6 * most THEN least(weight, later - before) ELSE 0 END AS weight
FROM (
    SELECT
        *,
        min(units) OVER (
            PARTITION BY user_id, item_id ORDER BY place ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
        ) AS later,
        lag(units, 1, 0) OVER (PARTITION BY user_id, item_id ORDER BY place) AS before,
        max(units) OVER (PARTITION BY user_id, item_id) AS most
    FROM held
)
WHERE weight >= 0;
