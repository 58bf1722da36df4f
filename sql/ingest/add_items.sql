INSERT INTO items (item_id)
SELECT item_id FROM touched AS t
WHERE NOT EXISTS (SELECT 1 FROM items AS i WHERE i.item_id = t.item_id)
ORDER BY item_id;
