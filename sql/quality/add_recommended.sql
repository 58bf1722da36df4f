-- What is there already, and what comes twice, is left out by EXCEPT.
INSERT INTO recommended
SELECT item_id
FROM read_parquet($part)
EXCEPT
SELECT item_id
FROM recommended;
