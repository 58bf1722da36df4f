CREATE OR REPLACE TEMP TABLE refused AS
SELECT file, line, malformed, false AS undated, rules
FROM (
    SELECT
        *,
        CASE
            WHEN malformed IS NOT NULL THEN ['record_readable']
            ELSE list_filter([
                CASE WHEN item_id IS NULL OR length(item_id) > $max_id_length THEN 'catalogue_item_id' END,
                CASE WHEN NOT is_text THEN 'catalogue_text_readable' END
            ], rule -> rule IS NOT NULL)
        END AS rules
    FROM catalogue
)
WHERE len(rules) > 0;
