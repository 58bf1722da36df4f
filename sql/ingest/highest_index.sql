SELECT coalesce(max(item_index), 0) AS item_index FROM items;
