-- $timed: whether event_time is a time and not a position. $latest: later events are taken for damaged. $earliest: the
-- default of quality.min_time. The first day of 1970 is that of clocks that were never set.
SELECT
    count(DISTINCT user_id) AS users,
    count(DISTINCT item_id) AS items,
    min(event_time) FILTER (NOT at_zero) AS oldest,
    max(event_time) FILTER (event_time < $latest) AS newest,
    count(*) FILTER (event_time >= $latest) AS after,
    count(*) FILTER (event_time < $earliest AND NOT at_zero) AS before,
    count(*) FILTER (at_zero) AS at_zero,
    min(weight) AS smallest_weight,
    max(weight) AS largest_weight
FROM (
    SELECT
        user_id,
        item_id,
        CASE WHEN $timed THEN event_time END AS event_time,
        coalesce($timed AND event_time >= TIMESTAMP '1970-01-01' AND event_time < TIMESTAMP '1970-01-02', false) AS at_zero,
        weight
    FROM staged
);
