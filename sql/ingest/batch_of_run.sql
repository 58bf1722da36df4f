SELECT max(batch_id) AS batch_id FROM batches WHERE day = $day AND run_id = $run_id;
