SELECT
    batch_id,
    (SELECT count(*)
        FROM batch_files AS f
        WHERE f.batch_id = b.batch_id AND f.kind = 'interactions' AND f.state <> 'duplicate') AS files,
    rows_read, rows_loaded, rows_duplicate, rows_quarantined, rows_late, rows_left, items_new, watermark_from, watermark_to
FROM batches AS b
WHERE batch_id = $batch_id;
