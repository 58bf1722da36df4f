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

-- name: ledger_differences
-- Batches whose counts are not those of the tables, or do not add up.
SELECT
    b.batch_id,
    b.rows_read,
    b.rows_loaded,
    b.rows_duplicate,
    b.rows_quarantined,
    b.rows_forgotten,
    coalesce(e.events, 0) AS events,
    coalesce(q.refused, 0) AS refused
FROM batches AS b
LEFT JOIN (SELECT batch_id, count(*) AS events FROM interactions GROUP BY batch_id) AS e ON b.batch_id = e.batch_id
LEFT JOIN (
    SELECT batch_id, count(*) AS refused FROM quarantine WHERE kind = 'interactions' GROUP BY batch_id
) AS q ON b.batch_id = q.batch_id
WHERE
    b.rows_read <> b.rows_loaded + b.rows_duplicate + b.rows_quarantined + b.rows_forgotten
    OR b.rows_loaded <> coalesce(e.events, 0)
    OR b.rows_quarantined <> coalesce(q.refused, 0)
ORDER BY b.batch_id;

-- name: strays
-- Rows that refer to nothing: events, refused rows and files of unknown batches, and events of unknown items; and events
-- of users who were forgotten.
SELECT 'events of a batch that the ledger does not know' AS what, count(*) AS rows
FROM interactions ANTI JOIN batches USING (batch_id)
UNION ALL
SELECT 'refused rows of a batch that the ledger does not know', count(*) FROM quarantine ANTI JOIN batches USING (batch_id)
UNION ALL
SELECT 'files of a batch that the ledger does not know', count(*) FROM batch_files ANTI JOIN batches USING (batch_id)
UNION ALL
SELECT 'events of an item that the table items does not have', count(*) FROM interactions ANTI JOIN items USING (item_id)
UNION ALL
SELECT 'users who were forgotten and have events', count(*)
FROM (SELECT DISTINCT user_id FROM interactions) AS u
SEMI JOIN forgotten AS f ON sha256((SELECT max(salt) FROM forgotten_salt) || u.user_id) = f.user_hash;

-- name: item_numbers
SELECT
    count(item_index) AS indexed,
    coalesce(max(item_index), 0) AS highest,
    count(DISTINCT item_index) AS distinct_indices,
    count(*) - count(DISTINCT item_id) AS repeated
FROM items;

-- name: warehouse_size
SELECT (SELECT count(*) FROM batches) AS batches, (SELECT count(*) FROM interactions) AS events;
