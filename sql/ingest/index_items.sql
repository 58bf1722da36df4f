-- Dense, from 1, in an order that the data alone decides.
UPDATE items
SET item_index = n.item_index
FROM (
    SELECT
        item_id,
        (SELECT coalesce(max(item_index), 0) FROM items)
            + row_number() OVER (ORDER BY first_seen, item_id) AS item_index
    FROM items
    WHERE item_index IS NULL AND first_seen IS NOT NULL
) AS n
WHERE items.item_id = n.item_id;
