-- The shard of a user, from 0. It comes from MD5, so that it is the same on every machine and in every version of DuckDB.
CREATE OR REPLACE TEMP MACRO shard_of(user_id, shards) AS
    CAST(CAST('0x' || left(md5(user_id), 8) AS BIGINT) % shards AS INTEGER);
