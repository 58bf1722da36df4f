SELECT path, bytes, modified_ns, sha256, state FROM batch_files WHERE kind = $kind ORDER BY batch_id;
