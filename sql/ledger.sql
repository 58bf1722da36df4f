-- The ledger: files that pulls have read, and metrics of each pull.

-- name: ordered_otherwise
-- Number of batches whose events have the other order (positions or times) than this pull.
SELECT count(*) AS batches FROM batches WHERE by_position <> $by_position AND rows_loaded > 0;

-- name: known_files
-- With the names of hmamba.sources.base.LedgerEntry. Only partial files have a rest.
SELECT
    path AS name, bytes AS size, modified_ns, sha256 AS digest, state, read_as,
    CASE WHEN state = 'partial' THEN {'through': read_through, 'refused_from': refused_from} END AS rest
FROM batch_files
WHERE kind = $kind
ORDER BY batch_id;

-- name: history
-- State of the warehouse before a pull. newest: newest event before the end of the day. is_entered: an earlier pull of the
-- day found rows.
SELECT
    (SELECT max(event_time) FROM interactions) AS watermark,
    (SELECT max(event_time) FROM interactions WHERE event_time < $past) AS newest,
    (SELECT coalesce(max(batch_id), 0) FROM batches) AS last_batch,
    (SELECT count(*) > 0 FROM batches WHERE day = $day AND rows_read > 0) AS is_entered,
    (SELECT median(rows_read)
        FROM (SELECT rows_read FROM batches WHERE rows_read > 0 ORDER BY batch_id DESC LIMIT $pulls)) AS usual_rows;

-- name: batch_of_run
SELECT max(batch_id) AS batch_id FROM batches WHERE day = $day AND run_id = $run_id;

-- name: add_batch_file
INSERT INTO batch_files (
    batch_id, kind, path, bytes, modified_ns, sha256, rows, state, rows_left, read_through, refused_from,
    read_as
)
VALUES (
    $batch_id, $kind, $path, $bytes, $modified_ns, $sha256, $rows, $state, $rows_left, $read_through, $refused_from,
    $read_as
);

-- name: add_batch
INSERT INTO batches (
    batch_id, day, run_id, source, started_at, loaded_at, watermark_from, watermark_to,
    rows_read, rows_loaded, rows_duplicate, rows_quarantined, rows_late, items_new, rows_left,
    by_position, rows_forgotten
)
SELECT
    $batch_id, $day, $run_id, $source, $started_at, $loaded_at,
    $watermark_from, (SELECT max(event_time) FROM interactions),
    $rows_read, $rows_loaded, $rows_duplicate, $rows_quarantined, $rows_late, $items_new, $rows_left,
    $by_position, $rows_forgotten;

-- name: check_batch
-- Counts from the tables, independent of the recorded metrics.
SELECT
    (SELECT count(*) FROM interactions WHERE batch_id = $batch_id) AS loaded,
    (SELECT count(*) FROM quarantine WHERE batch_id = $batch_id AND kind = 'interactions') AS quarantined,
    (SELECT count(*) FROM items WHERE item_index IS NOT NULL) AS indexed,
    (SELECT coalesce(max(item_index), 0) FROM items) AS highest_index,
    (SELECT count(DISTINCT item_index) FROM items) AS distinct_indices,
    (SELECT count(*) - count(DISTINCT item_id) FROM items) AS repeated_items;

-- name: batch_facts
SELECT
    batch_id,
    (SELECT count(*)
        FROM batch_files AS f
        WHERE f.batch_id = b.batch_id AND f.kind = 'interactions' AND f.state <> 'duplicate') AS files,
    rows_read, rows_loaded, rows_duplicate, rows_quarantined, rows_forgotten, rows_late, rows_left, items_new,
    watermark_from, watermark_to
FROM batches AS b
WHERE batch_id = $batch_id;

-- name: quarantined_by_rule
SELECT rule, count(*) AS rows
FROM (SELECT unnest(rules) AS rule FROM quarantine WHERE batch_id = $batch_id AND kind = 'interactions')
GROUP BY rule
ORDER BY rule;
