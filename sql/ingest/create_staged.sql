-- The batch before it is judged. A value that could not be read as its type is NULL here.
-- position: from 0 over all files. (A rowid is not what it seems before a commit.)
CREATE OR REPLACE TEMP TABLE staged (
    position BIGINT,
    file INTEGER,
    line BIGINT,
    malformed VARCHAR,
    user_id VARCHAR,
    item_id VARCHAR,
    event_time TIMESTAMP,
    weight DOUBLE
);
