SELECT
    coalesce(sum(new_events), 0) AS new_events,
    count(*) AS users,
    coalesce(sum(events), 0) AS events
FROM changed;
