-- Looking after a root: see hmamba/upkeep/.

-- name: taken_files
-- Files of interactions that pulls have read, with the state of their content: see batch_files. day: the last day of a
-- pull that considered rows of the content.
SELECT f.path AS name, f.bytes AS size, f.modified_ns, f.sha256 AS digest, c.state, c.day
FROM batch_files AS f
INNER JOIN (
    SELECT f.sha256, arg_max(f.state, f.batch_id) AS state, max(b.day) AS day
    FROM batch_files AS f
    INNER JOIN batches AS b ON f.batch_id = b.batch_id
    WHERE f.kind = 'interactions' AND f.state <> 'duplicate'
    GROUP BY f.sha256
) AS c ON f.sha256 = c.sha256
WHERE f.kind = 'interactions';

-- name: pull_days
-- The newest days of which pulls have read rows.
SELECT DISTINCT day FROM batches WHERE rows_read > 0 ORDER BY day DESC LIMIT $days;
