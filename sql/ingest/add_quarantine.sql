-- chunk: refused rows of one file as they are, line and record; record is the JSON of an object unless it is malformed.
INSERT INTO quarantine
SELECT
    $batch_id, $kind, $path, r.line, r.rules,
    CASE WHEN r.malformed IS NULL THEN CAST(c.record AS JSON) ELSE to_json(r.malformed) END
FROM chunk AS c
INNER JOIN refused AS r ON c.line = r.line AND r.file = $file;
