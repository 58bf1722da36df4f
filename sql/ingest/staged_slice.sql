SELECT rowid AS position, malformed, user_id, item_id, event_time, weight
FROM staged
WHERE rowid >= $first AND rowid < $past
ORDER BY rowid;
