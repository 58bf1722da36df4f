-- chunk: the file's records again, each as a struct of all its columns.
INSERT INTO quarantine
SELECT $batch_id, $kind, $path, r.line, r.rules, coalesce(to_json(r.malformed), to_json(c.__record))
FROM chunk AS c
INNER JOIN refused AS r ON c.__line = r.line AND r.file = $file;
