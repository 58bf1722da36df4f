-- Events that the warehouse may have already; it has no key to ask.
CREATE OR REPLACE TABLE known (
    user_id VARCHAR,
    item_id VARCHAR,
    event_time TIMESTAMP,
    event_type VARCHAR,
    is_return BOOLEAN
);
