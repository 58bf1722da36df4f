-- A late event may be older than any before it.
UPDATE items
SET first_seen = e.first_seen
FROM (SELECT item_id, min(event_time) AS first_seen FROM events WHERE NOT known GROUP BY item_id) AS e
WHERE items.item_id = e.item_id AND (items.first_seen IS NULL OR e.first_seen < items.first_seen);
