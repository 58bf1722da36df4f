-- Whether the catalogue and the interactions mean the same items. An item that the catalogue names has a path, be it
-- empty. Examples: the first of each side.
SELECT
    count(*) FILTER (WHERE item_index IS NOT NULL) AS touched,
    count(*) FILTER (WHERE category_path IS NOT NULL) AS named,
    count(*) FILTER (WHERE item_index IS NOT NULL AND category_path IS NOT NULL) AS both_sides,
    min(item_id) FILTER (WHERE item_index IS NOT NULL) AS of_interactions,
    min(item_id) FILTER (WHERE category_path IS NOT NULL) AS of_catalogue
FROM items;
