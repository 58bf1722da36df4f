-- One row for each (user_id, item_id, event_time), kept so by the pull; event_time is UTC.
CREATE TABLE IF NOT EXISTS interactions (
    user_id VARCHAR NOT NULL,
    item_id VARCHAR NOT NULL,
    event_time TIMESTAMP NOT NULL,
    weight FLOAT NOT NULL,
    batch_id BIGINT NOT NULL,
    loaded_at TIMESTAMP NOT NULL,
    event_type VARCHAR NOT NULL DEFAULT ''
);
