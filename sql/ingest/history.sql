-- What the warehouse holds before a pull. newest: the newest event before the end of the day. is_entered: a pull of the day
-- has found rows before.
SELECT
    (SELECT max(event_time) FROM interactions) AS watermark,
    (SELECT max(event_time) FROM interactions WHERE event_time < $past) AS newest,
    (SELECT coalesce(max(batch_id), 0) FROM batches) AS last_batch,
    (SELECT count(*) > 0 FROM batches WHERE day = $day AND rows_read > 0) AS is_entered,
    (SELECT median(rows_read)
        FROM (SELECT rows_read FROM batches WHERE rows_read > 0 ORDER BY batch_id DESC LIMIT $pulls)) AS usual_rows;
