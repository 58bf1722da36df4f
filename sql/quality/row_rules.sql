-- One row for each rule that a staged row breaks. NaN is no number, and is not out of bounds besides. $time_rule: the
-- rule of a time (or position) that could not be read. $earliest, $latest: NULL where positions stand for times.
-- $types: the event types that have a meaning; none where the source has no types.
INSERT INTO broken
SELECT position, unnest(rules) AS rule
FROM (
    SELECT
        position,
        list_filter([
            CASE WHEN malformed IS NOT NULL THEN 'record_readable' END,
            CASE WHEN user_id IS NULL AND NOT user_unreadable THEN 'user_id_present' END,
            CASE WHEN user_unreadable THEN 'user_id_readable' END,
            CASE WHEN length(user_id) NOT BETWEEN 1 AND $max_id_length THEN 'user_id_length' END,
            CASE WHEN item_id IS NULL AND NOT item_unreadable THEN 'item_id_present' END,
            CASE WHEN item_unreadable THEN 'item_id_readable' END,
            CASE WHEN length(item_id) NOT BETWEEN 1 AND $max_id_length THEN 'item_id_length' END,
            CASE WHEN event_time IS NULL THEN $time_rule END,
            CASE WHEN event_time < $earliest THEN 'event_time_not_before' END,
            CASE WHEN event_time >= $latest THEN 'event_time_not_after' END,
            CASE WHEN $typed AND NOT coalesce(list_contains($types, event_type), false) THEN 'event_type_known' END,
            CASE WHEN weight IS NULL OR isnan(weight) THEN 'weight_is_number' END,
            CASE WHEN NOT isnan(weight) AND weight NOT BETWEEN $min_weight AND $max_weight THEN 'weight_in_bounds' END
        ], rule -> rule IS NOT NULL) AS rules
    FROM staged
    WHERE
        position >= $first AND position < $past
        AND (
            malformed IS NOT NULL OR user_id IS NULL OR item_id IS NULL OR event_time IS NULL OR weight IS NULL
            OR length(user_id) NOT BETWEEN 1 AND $max_id_length OR length(item_id) NOT BETWEEN 1 AND $max_id_length
            OR event_time < $earliest OR event_time >= $latest
            OR ($typed AND NOT coalesce(list_contains($types, event_type), false))
            OR isnan(weight) OR weight NOT BETWEEN $min_weight AND $max_weight
        )
);
