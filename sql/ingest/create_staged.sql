-- The batch before it is judged. A value that could not be read as its type is NULL here. Made and dropped in the pull's
-- own transaction: not a temporary table, since those are kept uncompressed, and in memory for as long as it lasts.
-- position: from 0 over all files. (A rowid is not what it seems before a commit.) is_return: the weight is negative.
CREATE OR REPLACE TABLE staged (
    position BIGINT,
    file INTEGER,
    line BIGINT,
    malformed VARCHAR,
    user_id VARCHAR,
    item_id VARCHAR,
    event_time TIMESTAMP,
    event_type VARCHAR,
    weight DOUBLE,
    is_return BOOLEAN,
    user_unreadable BOOLEAN,
    item_unreadable BOOLEAN
);
