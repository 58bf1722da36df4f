SELECT item_index, item_id
FROM items
WHERE item_index IS NOT NULL;
