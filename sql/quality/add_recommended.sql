INSERT INTO recommended
SELECT DISTINCT item_id
FROM read_parquet($part);
