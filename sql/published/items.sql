-- Names of items. $file: an items.parquet; $items: their ids.
SELECT
    item_id,
    title,
    array_to_string(list_filter(category_path, lambda level: trim(level) <> ''), ' › ') AS category
FROM read_parquet($file)
WHERE list_contains($items, item_id)
