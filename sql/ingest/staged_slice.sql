SELECT position, malformed, user_id, item_id, event_time, weight
FROM staged
WHERE position >= $first AND position < $past;
