INSERT INTO items (item_id)
SELECT DISTINCT item_id FROM events AS e
WHERE NOT e.known AND NOT EXISTS (SELECT 1 FROM items AS i WHERE i.item_id = e.item_id)
ORDER BY item_id;
