INSERT INTO batches (
    batch_id, day, run_id, source, started_at, loaded_at, watermark_from, watermark_to,
    rows_read, rows_loaded, rows_duplicate, rows_quarantined, rows_late, items_new, rows_left,
    by_position
)
SELECT
    $batch_id, $day, $run_id, $source, $started_at, $loaded_at,
    $watermark_from, (SELECT max(event_time) FROM interactions),
    $rows_read, $rows_loaded, $rows_duplicate, $rows_quarantined, $rows_late, $items_new, $rows_left,
    $by_position;
