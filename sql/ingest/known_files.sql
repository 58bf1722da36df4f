SELECT path, bytes, modified_ns, sha256, state, read_through, refused_from, read_as
FROM batch_files
WHERE kind = $kind
ORDER BY batch_id;
