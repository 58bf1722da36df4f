SELECT
    count(*) FILTER (WHERE NOT known) AS loaded,
    CAST(coalesce(sum(CASE WHEN known THEN copies ELSE copies - 1 END), 0) AS BIGINT) AS duplicate,
    (SELECT count(*) FROM refused) AS quarantined,
    count(*) FILTER (WHERE NOT known AND event_time < $late_before) AS late,
    max(event_time) AS newest
FROM events;
