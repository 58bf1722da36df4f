-- Items that enough events touch to be learnt. $least: the default of train.min_item_events.
SELECT count(*) AS items FROM (SELECT item_id FROM sampled GROUP BY item_id HAVING count(*) >= $least);
