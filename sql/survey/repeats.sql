-- Events that are not the first of their user and item. Copies at the same time are one event. $types: what counts, if
-- events have types; $typed: whether they have. Data without times has no copies.
SELECT count(*) AS events, count(*) - count(DISTINCT (user_id, item_id)) AS repeats
FROM (
    SELECT DISTINCT user_id, item_id, coalesce(moment, TIMESTAMP '2000-01-01' + to_seconds(row_number() OVER ())) AS moment
    FROM sampled
    WHERE user_id IS NOT NULL AND item_id IS NOT NULL AND (NOT $typed OR list_contains($types, type))
);
