-- What the index holds, and of it what is allowed.
CREATE OR REPLACE TEMP TABLE eligible_items AS
SELECT DISTINCT item_index
FROM read_parquet($indexed)
WHERE $everything OR item_id IN (SELECT item_id FROM allowed);
