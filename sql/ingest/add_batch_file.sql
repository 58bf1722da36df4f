INSERT INTO batch_files (
    batch_id, kind, path, bytes, modified_ns, sha256, rows, state, rows_left, read_through, refused_from,
    read_as
)
VALUES (
    $batch_id, $kind, $path, $bytes, $modified_ns, $sha256, $rows, $state, $rows_left, $read_through, $refused_from,
    $read_as
);
