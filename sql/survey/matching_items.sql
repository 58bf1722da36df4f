-- chunk: file, id, as a catalogue may name items. How far those of $files are the items, or the users, of the events: of
-- each file, and of all together, where file is NULL.
WITH items AS (SELECT DISTINCT item_id AS id FROM staged WHERE item_id IS NOT NULL),
users AS (SELECT DISTINCT user_id AS id FROM staged WHERE user_id IS NOT NULL)
SELECT
    file,
    count(*) AS rows,
    count(DISTINCT id) AS ids,
    (SELECT count(*) FROM items) AS items,
    (SELECT count(*) FROM users) AS users,
    count(DISTINCT id) FILTER (id IN (FROM items)) AS named_items,
    count(DISTINCT id) FILTER (id IN (FROM users)) AS named_users
FROM chunk
WHERE list_contains($files, file)
GROUP BY GROUPING SETS ((file), ())
ORDER BY file NULLS FIRST;
