INSERT INTO batch_files VALUES ($batch_id, $kind, $path, $bytes, $modified_ns, $sha256, $rows, $state);
