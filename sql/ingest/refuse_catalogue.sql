CREATE OR REPLACE TEMP TABLE refused AS
SELECT
    file,
    line,
    malformed,
    [CASE WHEN malformed IS NULL THEN 'catalogue_item_id' ELSE 'record_readable' END] AS rules
FROM catalogue
WHERE malformed IS NOT NULL OR item_id IS NULL OR length(item_id) > $max_id_length;
