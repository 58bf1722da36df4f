SELECT
    (SELECT max(event_time) FROM interactions) AS watermark,
    (SELECT coalesce(max(batch_id), 0) FROM batches) AS last_batch,
    (SELECT median(rows_read)
        FROM (SELECT rows_read FROM batches WHERE rows_read > 0 ORDER BY batch_id DESC LIMIT $pulls)) AS usual_rows;
