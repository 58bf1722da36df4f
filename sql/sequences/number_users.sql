-- Users in the order of the snapshot, with the shard that holds them. The shard is computed once a user, and events are
-- sorted by a number instead of by shard and id.
CREATE OR REPLACE TEMP TABLE numbered AS
SELECT user_id, shard, events, row_number() OVER (ORDER BY shard, user_id) AS number
FROM (SELECT user_id, shard_of(user_id, $shards) AS shard, events FROM counted);
