-- Users in the order of the snapshot, with the shard that holds them. The shard comes from MD5, so that it is the same on
-- every machine and in every version of DuckDB. It is computed once a user, and events are sorted by a number instead of
-- by shard and id.
CREATE OR REPLACE TEMP TABLE numbered AS
SELECT user_id, shard, events, row_number() OVER (ORDER BY shard, user_id) AS number
FROM (
    SELECT user_id, CAST(CAST('0x' || left(md5(user_id), 8) AS BIGINT) % $shards AS INTEGER) AS shard, events
    FROM counted
);
