-- Columns of the catalogue and of the users file, kept as they are: see hmamba/sequences/described.py. Columns are staged
-- by number (c0, c1, ...), so that no statement has a name from a file. Names that begin with the_ are replaced by names of
-- such tables and columns.

-- name: record_keys
-- chunk: JSON records as text. Names of the members of all objects, in the order of their first occurrence.
SELECT name
FROM (
    SELECT unnest(json_keys(__record)) AS name, __line AS line
    FROM chunk
    WHERE CASE WHEN json_valid(__record) THEN json_type(__record) = 'OBJECT' ELSE false END
)
GROUP BY name
ORDER BY min(line), name;

-- name: create_part
CREATE OR REPLACE TEMP TABLE the_part AS SELECT * FROM chunk;

-- name: insert_part
INSERT INTO the_part SELECT * FROM chunk;

-- name: drop_part
DROP TABLE the_part;

-- name: join_parts
-- The last row of an id wins.
CREATE OR REPLACE TEMP TABLE described AS
SELECT * FROM (SELECT * FROM the_parts)
WHERE id IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY id ORDER BY file DESC, line DESC) = 1;

-- name: drop_forgotten
DELETE FROM described WHERE sha256($salt || id) IN (SELECT user_hash FROM forgotten);

-- name: create_kind_of
-- The narrowest type of one text. Numbers with zeros in front are text: they are codes. A text that is no date of the
-- calendar is text.
CREATE OR REPLACE TEMP MACRO kind_of(text) AS CASE
    WHEN regexp_full_match(text, '-?(0|[1-9][0-9]{0,17})') THEN 'BIGINT'
    WHEN regexp_full_match(text, '-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?') AND TRY_CAST(text AS DOUBLE) IS NOT NULL
        THEN 'DOUBLE'
    WHEN lower(text) IN ('true', 'false') THEN 'BOOLEAN'
    WHEN regexp_full_match(text, '[0-9]{4}-[0-9]{2}-[0-9]{2}') AND TRY_CAST(text AS DATE) IS NOT NULL THEN 'DATE'
    WHEN regexp_full_match(text, '[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}.*') AND TRY_CAST(text AS TIMESTAMP) IS NOT NULL
        THEN 'TIMESTAMP'
    ELSE 'VARCHAR'
END;

-- name: kinds
SELECT the_kinds FROM described;

-- name: of_items
-- snapshot_items: the items of the snapshot.
SELECT i.item_index, i.item_id, i.title, i.category_path, i.first_seen, i.events, d.*
FROM snapshot_items AS i
LEFT JOIN (SELECT id, the_columns FROM described) AS d ON i.item_id = d.id
ORDER BY i.item_index;

-- name: of_users
SELECT shard_of(id, $shards) AS shard, id, the_columns
FROM described
ORDER BY shard, id;

-- name: drop
DROP TABLE described;
