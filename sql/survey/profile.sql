-- chunk: one column, called value. What its values are like. $null_words: texts that mean an absent value.
SELECT
    count(*) AS rows,
    count(value) AS present,
    count(DISTINCT value) AS distinct_values,
    count(number) AS numbers,
    count(*) FILTER (WHERE number = floor(number)) AS whole_numbers,
    min(number) AS smallest,
    quantile_disc(number, 0.5) AS middle,
    max(number) AS largest,
    count(TRY_CAST(value AS TIMESTAMPTZ)) AS times,
    count(*) FILTER (WHERE regexp_full_match(value, '.*(Z|UTC|[+-]\d\d(:?\d\d)?)') AND contains(value, ':')) AS offsets,
    count(*) FILTER (number IS NULL AND TRY_CAST(value AS TIMESTAMPTZ) IS NULL AND value IS NOT NULL) AS strange_values,
    first(value) FILTER (number IS NULL AND TRY_CAST(value AS TIMESTAMPTZ) IS NULL AND value IS NOT NULL) AS strange,
    first(value) AS example
FROM (
    SELECT value, CASE WHEN isfinite(TRY_CAST(value AS DOUBLE)) THEN CAST(value AS DOUBLE) END AS number
    FROM (
        SELECT CASE WHEN NOT list_contains($null_words, text) THEN text END AS value
        FROM (SELECT trim(CAST(value AS VARCHAR)) AS text FROM chunk)
    )
);
