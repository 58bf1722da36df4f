-- chunk: one row a record, the columns item_id, title and those of the path (as one list) already picked.
INSERT INTO catalogue
SELECT
    $file,
    __line,
    __malformed,
    nullif(CAST(item_id AS VARCHAR), ''),
    nullif(trim(CAST(title AS VARCHAR)), ''),
    list_filter(list_transform(levels, level -> trim(level)), level -> level <> '')
FROM chunk;
