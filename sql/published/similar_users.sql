-- Published users whose ids look most like one that is not there. $files: the published parts; $user; $most.
SELECT user_id
FROM (SELECT DISTINCT user_id FROM read_parquet($files))
ORDER BY jaro_winkler_similarity(user_id, $user) DESC, user_id
LIMIT $most
