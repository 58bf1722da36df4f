-- item_index is dense from 1 and only ever grows; it and first_seen are NULL for what nobody has touched yet.
CREATE TABLE IF NOT EXISTS items (
    item_id VARCHAR NOT NULL,
    item_index INTEGER,
    title VARCHAR,
    category_path VARCHAR[],
    first_seen TIMESTAMP
);
