-- The best candidates of one user. $files: the published parts; $user; $most.
SELECT rank, item_id, score
FROM read_parquet($files)
WHERE user_id = $user AND rank <= $most
ORDER BY rank
