-- A late event may be older than any before it.
UPDATE items
SET first_seen = t.first_seen
FROM touched AS t
WHERE items.item_id = t.item_id AND (items.first_seen IS NULL OR t.first_seen < items.first_seen);
