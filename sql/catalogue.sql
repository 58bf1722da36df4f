-- Titles and categories of items: see hmamba/warehouse/metadata.py.

-- name: create
-- Staged rows of the catalogue; the last row of an id wins. levels: from the widest category to the narrowest.
-- attributes: each 'column=value' or 'word=WORD'. is_text: title, levels and attributes are text or absent.
CREATE OR REPLACE TEMP TABLE catalogue (
    file INTEGER,
    line BIGINT,
    malformed VARCHAR,
    item_id VARCHAR,
    title VARCHAR,
    levels VARCHAR[],
    attributes VARCHAR[],
    is_text BOOLEAN
);

-- name: stage
-- chunk: rows of the catalogue from files of any format, see hmamba/warehouse/metadata.py. text: of its first 200 words of
-- two or more letters and digits, each becomes an attribute.
INSERT INTO catalogue
SELECT
    $file,
    line,
    malformed,
    CAST(item_id AS VARCHAR),
    title,
    list_filter(levels, level -> level IS NOT NULL),
    list_concat(
        attributes,
        list_transform(
            list_sort(list_distinct(regexp_extract_all(lower(coalesce(text, '')), '[\p{L}\p{M}\p{N}]{2,}')[1:200])),
            word -> 'word=' || word
        )
    ),
    coalesce(is_text, true)
FROM chunk;

-- name: refuse
-- An unreadable record breaks only the rule record_readable. The comment is replaced by the conditions of
-- hmamba/quality/row_rules.py.
CREATE OR REPLACE TEMP TABLE refused AS
SELECT
    file,
    line,
    malformed,
    false AS undated,
    CASE WHEN malformed IS NULL THEN rules ELSE ['record_readable'] END AS rules
FROM (SELECT *, list_filter([/* rules */], rule -> rule IS NOT NULL) AS rules FROM catalogue)
WHERE len(rules) > 0;

-- name: forget_items
-- With forget_descriptions, before the whole catalogue is applied with other settings. Items with an item_index stay,
-- because a model may know them.
DELETE FROM items WHERE item_index IS NULL;

-- name: forget_descriptions
UPDATE items SET title = NULL, category_path = NULL, attributes = NULL WHERE category_path IS NOT NULL;

-- name: add_items
-- Items without events get an item_index in index_items, if they have a category or an attribute.
INSERT INTO items (item_id)
SELECT DISTINCT c.item_id
FROM catalogue AS c
ANTI JOIN refused AS r ON c.file = r.file AND c.line = r.line
WHERE NOT EXISTS (SELECT 1 FROM items AS i WHERE i.item_id = c.item_id)
ORDER BY c.item_id;

-- name: describe_items
-- The last row of an item wins. If the title is absent, the narrowest level of the path is the title. Only changed items
-- are written.
UPDATE items
SET title = c.title, category_path = c.levels, attributes = c.attributes
FROM (
    SELECT
        s.item_id,
        coalesce(s.levels, []) AS levels,
        s.attributes,
        coalesce(s.title, s.levels[-1]) AS title
    FROM catalogue AS s
    ANTI JOIN refused AS r ON s.file = r.file AND s.line = r.line
    QUALIFY row_number() OVER (PARTITION BY s.item_id ORDER BY s.file DESC, s.line DESC) = 1
) AS c
WHERE
    items.item_id = c.item_id
    AND (items.title, items.category_path, items.attributes) IS DISTINCT FROM (c.title, c.levels, c.attributes);

-- name: index_items
-- Indices after those of all other items. An item keeps its index when its first event comes. Items without a category
-- and attributes get theirs with their first event: nothing is known of them. Items without events are at most as many as
-- those with events, or 20,000: models and indexes grow with them.
UPDATE items
SET item_index = n.item_index
FROM (
    SELECT
        item_id,
        (SELECT coalesce(max(item_index), 0) FROM items) + row_number() OVER (ORDER BY item_id) AS item_index
    FROM items
    WHERE item_index IS NULL AND (len(category_path) > 0 OR len(attributes) > 0)
    QUALIFY row_number() OVER (ORDER BY item_id) <= (
        SELECT
            greatest(20000, count(*) FILTER (WHERE first_seen IS NOT NULL))
            - count(*) FILTER (WHERE item_index IS NOT NULL AND first_seen IS NULL)
        FROM items
    )
) AS n
WHERE items.item_id = n.item_id;

-- name: match
-- Overlap of the catalogue and the interactions. Items in the catalogue have a non-NULL path, which may be empty. The
-- examples are the first item of each side.
SELECT
    count(*) FILTER (WHERE first_seen IS NOT NULL) AS touched,
    count(*) FILTER (WHERE category_path IS NOT NULL) AS named,
    count(*) FILTER (WHERE first_seen IS NOT NULL AND category_path IS NOT NULL) AS both_sides,
    min(item_id) FILTER (WHERE first_seen IS NOT NULL) AS of_interactions,
    min(item_id) FILTER (WHERE category_path IS NOT NULL) AS of_catalogue
FROM items;
