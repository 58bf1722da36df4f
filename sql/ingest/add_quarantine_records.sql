INSERT INTO quarantine
SELECT
    $batch_id, $kind, $path, r.line, r.rules,
    CASE WHEN r.malformed IS NULL THEN CAST(c.__record AS JSON) ELSE to_json(r.malformed) END
FROM chunk AS c
INNER JOIN refused AS r ON c.__line = r.line AND r.file = $file;
