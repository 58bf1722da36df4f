-- The batch before it is judged. A value that could not be read as its type is NULL here.
CREATE OR REPLACE TEMP TABLE staged (
    file INTEGER,
    line BIGINT,
    malformed VARCHAR,
    user_id VARCHAR,
    item_id VARCHAR,
    event_time TIMESTAMP,
    weight DOUBLE
);
