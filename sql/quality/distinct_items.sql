SELECT count(DISTINCT item_id) AS distinct_items
FROM recommended;
