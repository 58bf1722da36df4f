-- Batches with events that were not ordered as tonight's are: by positions, or by times.
SELECT count(*) AS batches FROM batches WHERE by_position <> $by_position AND rows_loaded > 0;
