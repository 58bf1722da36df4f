INSERT INTO recommended
SELECT DISTINCT item_id
FROM read_parquet($part)
EXCEPT
SELECT item_id
FROM recommended;
