-- Ids of staged events that are words for nothing ($words).
SELECT what, id, count(*) AS events
FROM (
    SELECT 'user' AS what, user_id AS id
    FROM staged
    WHERE list_contains($words, user_id)
    UNION ALL
    SELECT 'item' AS what, item_id AS id
    FROM staged
    WHERE list_contains($words, item_id)
)
GROUP BY ALL
ORDER BY what, id;
