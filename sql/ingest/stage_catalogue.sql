-- chunk: rows of the catalogue as hmamba/warehouse/metadata.py reads them from any kind of file.
INSERT INTO catalogue
SELECT
    $file,
    line,
    malformed,
    CAST(item_id AS VARCHAR),
    title,
    list_filter(levels, level -> level IS NOT NULL),
    coalesce(is_text, true)
FROM chunk;
