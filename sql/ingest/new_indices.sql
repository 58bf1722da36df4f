SELECT count(*) AS items FROM items WHERE item_index > $highest_before;
