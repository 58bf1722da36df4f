-- Of several rows for an item the last counts. Without a title, the narrowest level of the path is the title.
-- Only items that differ are written.
UPDATE items
SET title = c.title, category_path = c.levels
FROM (
    SELECT
        s.item_id,
        coalesce(s.levels, []) AS levels,
        coalesce(s.title, s.levels[-1]) AS title
    FROM catalogue AS s
    ANTI JOIN refused AS r ON s.file = r.file AND s.line = r.line
    QUALIFY row_number() OVER (PARTITION BY s.item_id ORDER BY s.file DESC, s.line DESC) = 1
) AS c
WHERE
    items.item_id = c.item_id
    AND (items.title IS DISTINCT FROM c.title OR items.category_path IS DISTINCT FROM c.levels);
