-- The warehouse's tables.

-- name: create_interactions
-- One row per (user_id, item_id, event_time, event_type, weight < 0); the pull ensures uniqueness. event_time is UTC; with
-- source.columns.position, it is the position in microseconds since 1970. event_type: '' if the source has no types.
CREATE TABLE IF NOT EXISTS interactions (
    user_id VARCHAR NOT NULL,
    item_id VARCHAR NOT NULL,
    event_time TIMESTAMP NOT NULL,
    weight FLOAT NOT NULL,
    batch_id BIGINT NOT NULL,
    loaded_at TIMESTAMP NOT NULL,
    event_type VARCHAR NOT NULL DEFAULT ''
);

-- name: create_items
-- attributes: each 'column=value', of the columns of catalogue.attributes, and 'word=WORD', of those of catalogue.text.
-- item_index is dense from 1, new items get larger ones; NULL for items without events, categories and attributes.
-- first_seen is NULL for items without events.
CREATE TABLE IF NOT EXISTS items (
    item_id VARCHAR NOT NULL,
    item_index INTEGER,
    title VARCHAR,
    category_path VARCHAR[],
    first_seen TIMESTAMP,
    attributes VARCHAR[]
);

-- name: create_batches
-- One row per pull with new data: rows_read = rows_loaded + rows_duplicate + rows_quarantined + rows_forgotten, the rows
-- of users who were forgotten before the pull or since. rows_left: rows of later days, which stay in their files and are
-- not in rows_read. by_position: events were ordered by position.
CREATE TABLE IF NOT EXISTS batches (
    batch_id BIGINT NOT NULL,
    day DATE NOT NULL,
    run_id VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL,
    loaded_at TIMESTAMP NOT NULL,
    watermark_from TIMESTAMP,
    watermark_to TIMESTAMP,
    rows_read BIGINT NOT NULL,
    rows_loaded BIGINT NOT NULL,
    rows_duplicate BIGINT NOT NULL,
    rows_quarantined BIGINT NOT NULL,
    rows_late BIGINT NOT NULL,
    items_new BIGINT NOT NULL,
    rows_left BIGINT DEFAULT 0,
    by_position BOOLEAN,
    rows_forgotten BIGINT NOT NULL,
    CHECK (rows_read = rows_loaded + rows_duplicate + rows_quarantined + rows_forgotten)
);

-- name: create_batch_files
-- One row per file of a pull. kind: interactions or catalogue. state: loaded; partial, if rows of later days are left in
-- it; or duplicate, if its content was loaded under another name. rows: rows that the pull considered. read_through and
-- refused_from, for partial files: the last day whose rows have been considered, and the time from which on rows were
-- refused when the file was first read. read_as, for catalogue files: a digest of the settings used to read them.
CREATE TABLE IF NOT EXISTS batch_files (
    batch_id BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    bytes BIGINT NOT NULL,
    modified_ns BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    rows BIGINT NOT NULL,
    state VARCHAR NOT NULL,
    rows_left BIGINT DEFAULT 0,
    read_through DATE,
    refused_from TIMESTAMP,
    read_as VARCHAR
);

-- name: create_quarantine
-- Refused rows, unchanged. line: line of a text file, or row number in Parquet or a JSON array, from 1.
CREATE TABLE IF NOT EXISTS quarantine (
    batch_id BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    line BIGINT NOT NULL,
    rules VARCHAR[] NOT NULL,
    record JSON NOT NULL
);

-- name: create_forgotten
-- One row per forgotten user, without the id: user_hash is SHA-256 of the salt and the id. events, quarantined: number of
-- deleted rows.
CREATE TABLE IF NOT EXISTS forgotten (
    user_hash VARCHAR NOT NULL,
    forgotten_at TIMESTAMP NOT NULL,
    events BIGINT NOT NULL,
    quarantined BIGINT NOT NULL
);

-- name: create_forgotten_salt
-- One row: a random text.
CREATE TABLE IF NOT EXISTS forgotten_salt (salt VARCHAR NOT NULL);

-- name: add_event_type
-- This and the next statements complete warehouses of earlier versions.
ALTER TABLE interactions ADD COLUMN IF NOT EXISTS event_type VARCHAR DEFAULT '';

-- name: add_rows_left
ALTER TABLE batches ADD COLUMN IF NOT EXISTS rows_left BIGINT DEFAULT 0;

-- name: add_by_position
ALTER TABLE batches ADD COLUMN IF NOT EXISTS by_position BOOLEAN;

-- name: add_file_rows_left
ALTER TABLE batch_files ADD COLUMN IF NOT EXISTS rows_left BIGINT DEFAULT 0;

-- name: add_read_through
ALTER TABLE batch_files ADD COLUMN IF NOT EXISTS read_through DATE;

-- name: add_refused_from
ALTER TABLE batch_files ADD COLUMN IF NOT EXISTS refused_from TIMESTAMP;

-- name: add_read_as
ALTER TABLE batch_files ADD COLUMN IF NOT EXISTS read_as VARCHAR;

-- name: add_attributes
ALTER TABLE items ADD COLUMN IF NOT EXISTS attributes VARCHAR[];

-- name: tables
SELECT count(*) AS tables FROM duckdb_tables() WHERE table_name = 'interactions' AND NOT temporary;

-- name: foreign_tables
-- A table of something else, in a file without a table of the warehouse.
SELECT min(table_name) AS name, count(*) FILTER (WHERE table_name = 'interactions') AS own
FROM duckdb_tables()
WHERE NOT temporary;

-- name: newest_event
SELECT max(event_time) AS event_time FROM interactions;
