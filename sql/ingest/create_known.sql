-- Keys of the staged rows whose event the warehouse has already, some of them several times; it has no key to ask.
CREATE OR REPLACE TABLE known (
    user_id VARCHAR,
    item_id VARCHAR,
    event_time TIMESTAMP,
    event_type VARCHAR,
    is_return BOOLEAN
);
