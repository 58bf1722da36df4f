-- Without an index: nobody has touched them yet.
INSERT INTO items (item_id)
SELECT DISTINCT c.item_id
FROM catalogue AS c
ANTI JOIN refused AS r ON c.file = r.file AND c.line = r.line
WHERE NOT EXISTS (SELECT 1 FROM items AS i WHERE i.item_id = c.item_id)
ORDER BY c.item_id;
