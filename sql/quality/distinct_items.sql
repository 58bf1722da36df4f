SELECT count(item_id) AS distinct_items
FROM recommended;
