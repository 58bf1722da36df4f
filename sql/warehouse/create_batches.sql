-- One row for each pull that found something new: rows_read = rows_loaded + rows_duplicate + rows_quarantined. rows_left:
-- rows of later days, which stay in their files and are not read. by_position: events were ordered by positions.
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
    CHECK (rows_read = rows_loaded + rows_duplicate + rows_quarantined)
);
