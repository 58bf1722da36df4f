-- Numbers of rows are all different, so ranks that go with them are too.
CREATE OR REPLACE TEMP TABLE candidate_users AS
SELECT
    user_id,
    count(*) AS candidates,
    min(rank) AS lowest,
    max(rank) AS highest,
    min(rank - file_row_number) = max(rank - file_row_number) AS together_in_order,
    list_unique(list(item_id)) AS items
FROM read_parquet($part, file_row_number = true)
GROUP BY user_id;
