-- One row for each (user_id, item_id, event_time, event_type, weight < 0), kept so by the pull; event_time is UTC. With
-- source.columns.position it is that many microseconds after 1970 began. event_type: '' where the source has none.
CREATE TABLE IF NOT EXISTS interactions (
    user_id VARCHAR NOT NULL,
    item_id VARCHAR NOT NULL,
    event_time TIMESTAMP NOT NULL,
    weight FLOAT NOT NULL,
    batch_id BIGINT NOT NULL,
    loaded_at TIMESTAMP NOT NULL,
    event_type VARCHAR NOT NULL DEFAULT ''
);
