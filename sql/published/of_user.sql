-- The best candidates of one user. $files: the published parts; $user; $most.
SELECT rank, item_id, score, model_version
FROM read_parquet($files)
WHERE user_id = $user AND rank <= $most
ORDER BY rank
