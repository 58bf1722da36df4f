-- The snapshot, and the events after a snapshot: see hmamba/sequences/snapshot.py.

-- name: unnamed_types
-- Types of events in the warehouse that [events] does not name.
SELECT DISTINCT event_type FROM interactions ANTI JOIN meanings USING (event_type) WHERE event_time < $end_time ORDER BY event_type;

-- name: create_taken_back
-- Remaining weight of the events of (user, item) pairs with returns. A return (a negative weight) reduces the newest
-- earlier events of a target type (a view cannot be returned), and never more than the user holds. With S the units held
-- after each event, an event of w units keeps least(w, min of S from here on - S before it). Remainders up to a millionth
-- of the largest S are rounding errors, such as 0.1 + 0.6 - 0.7, and count as zero.
CREATE OR REPLACE TEMP TABLE taken_back AS
WITH paths AS (
    SELECT
        user_id, item_id, event_time, event_type, weight,
        sum(weight) OVER so_far AS total,
        row_number() OVER by_time AS place
    FROM interactions
    INNER JOIN meanings AS m USING (event_type)
    SEMI JOIN (
        SELECT DISTINCT user_id, item_id FROM interactions WHERE weight < 0 AND event_time < $end_time
    ) AS r USING (user_id, item_id)
    WHERE event_time < $end_time AND (weight < 0 OR m.is_target)
    WINDOW
        by_time AS (PARTITION BY user_id, item_id ORDER BY event_time, weight DESC, event_type),
        so_far AS (
            PARTITION BY user_id, item_id ORDER BY event_time, weight DESC, event_type
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )
),

held AS (
    SELECT
        * EXCLUDE (total),
        total - least(0, min(total) OVER (
            PARTITION BY user_id, item_id ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        )) AS units
    FROM paths
)

SELECT
    user_id, item_id, event_time, event_type,
    CASE WHEN later - before > 1e-6 * most THEN least(weight, later - before) ELSE 0 END AS weight
FROM (
    SELECT
        *,
        min(units) OVER (
            PARTITION BY user_id, item_id ORDER BY place ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
        ) AS later,
        lag(units, 1, 0) OVER (PARTITION BY user_id, item_id ORDER BY place) AS before,
        max(units) OVER (PARTITION BY user_id, item_id) AS most
    FROM held
)
WHERE weight >= 0;

-- name: create_meant
-- Events before a time as input of the model: weights after returns, scaled as [events] configures. meanings: one row per
-- type. A weight of 0 is an event that was seen and not wanted; returns themselves are not events.
CREATE OR REPLACE TEMP MACRO meant(end_time) AS TABLE
SELECT
    user_id, item_id, event_time, event_type,
    CAST(factor * CASE WHEN linear THEN units ELSE least(log2(1 + units), 4) END AS FLOAT) AS weight,
    is_target AND (least_target IS NULL OR units >= least_target) AS is_target,
    is_seen
FROM (
    SELECT e.user_id, e.item_id, e.event_time, e.event_type, coalesce(b.weight, e.weight) AS units, m.* EXCLUDE (event_type)
    FROM interactions AS e
    INNER JOIN meanings AS m ON e.event_type = m.event_type
    LEFT JOIN taken_back AS b
        ON e.user_id = b.user_id AND e.item_id = b.item_id AND e.event_time = b.event_time AND e.event_type = b.event_type
    WHERE e.event_time < end_time AND e.weight >= 0
);

-- name: create_valued
-- Events as input of the model, with their times.
CREATE OR REPLACE TEMP MACRO valued(end_time) AS TABLE SELECT * FROM meant(end_time);

-- name: create_valued_by_position
-- Events as input of the model, for data ordered by position: consecutive steps of a user are one day apart, so that a
-- decay per day becomes a decay per step.
CREATE OR REPLACE TEMP MACRO valued(end_time) AS TABLE
SELECT * REPLACE (
    TIMESTAMP '2000-01-01'
        + to_days(CAST(dense_rank() OVER (PARTITION BY user_id ORDER BY event_time) - 1 AS INTEGER)) AS event_time
)
FROM meant(end_time);

-- name: create_shard_of
-- The shard of a user, from 0. MD5 makes it the same on every machine and in every version of DuckDB.
CREATE OR REPLACE TEMP MACRO shard_of(user_id, shards) AS
    CAST(CAST('0x' || left(md5(user_id), 8) AS BIGINT) % shards AS INTEGER);

-- name: shard_of_user
SELECT shard_of($user, $shards) AS shard;

-- name: count_events
CREATE OR REPLACE TEMP TABLE counted AS
SELECT user_id, count(*) AS events, count(*) FILTER (WHERE is_target AND weight > 0) AS targets FROM valued($end_time) GROUP BY user_id;

-- name: totals
-- batch: the newest batch in the snapshot, which identifies later events.
SELECT
    (SELECT coalesce(sum(events), 0) FROM counted) AS events,
    (SELECT coalesce(sum(targets), 0) FROM counted) AS targets,
    (SELECT count(*) FROM counted) AS users,
    max(event_time) AS newest_event,
    max(batch_id) AS batch
FROM interactions
WHERE event_time < $end_time;

-- name: number_users
-- Users in the order of the snapshot, with their shards. The shard is computed once per user, and events are sorted by a
-- number instead of by shard and id.
CREATE OR REPLACE TEMP TABLE numbered AS
SELECT user_id, shard, events, row_number() OVER (ORDER BY shard, user_id) AS number
FROM (SELECT user_id, shard_of(user_id, $shards) AS shard, events FROM counted);

-- name: events
-- Events of numbered users, in the order of their numbers: shard by shard, and by id within one.
SELECT
    n.shard,
    e.user_id,
    i.item_index,
    e.event_time,
    e.weight,
    e.is_target,
    e.is_seen
FROM valued($end_time) AS e
INNER JOIN numbered AS n ON e.user_id = n.user_id
INNER JOIN items AS i ON e.item_id = i.item_id
ORDER BY n.number, e.event_time, i.item_index, e.event_type;

-- name: items
-- attributes: a category on each level of the path, named by the path down to it, and the columns of catalogue.attributes.
-- first_seen and events use only events before the end, so that nothing leaks from the future. events: number of targets
-- that have not been returned completely. Items without events before the end are included if the catalogue describes
-- them, and, so that a model never knows more items than a later snapshot, if a former catalogue described them or if
-- their events have been deleted.
SELECT
    i.item_index,
    i.item_id,
    coalesce(i.title, i.item_id) AS title,
    coalesce(i.category_path, []) AS category_path,
    list_concat(
        list_transform(
            range(1, len(coalesce(i.category_path, [])) + 1),
            level -> 'category_path=' || array_to_string(i.category_path[1:level], chr(31))
        ),
        coalesce(i.attributes, [])
    ) AS attributes,
    e.first_seen,
    coalesce(e.events, 0) AS events
FROM items AS i
LEFT JOIN (
    SELECT item_id, min(event_time) AS first_seen, count(*) FILTER (is_target AND weight > 0) AS events
    FROM valued($end_time)
    GROUP BY item_id
) AS e ON i.item_id = e.item_id
WHERE
    e.item_id IS NOT NULL
    OR (
        i.item_index IS NOT NULL
        AND (i.first_seen IS NULL OR i.first_seen < $end_time OR len(i.category_path) > 0 OR len(i.attributes) > 0)
    )
ORDER BY i.item_index;

-- name: changed_users
-- Users with events that are not in a snapshot: events from its end on ($held_time), and events of later batches.
-- new_events: number of such events of the user; events: number of all events of the user, as in count_events.
CREATE OR REPLACE TEMP TABLE counted AS
SELECT user_id, any_value(new_events) AS new_events, count(*) AS events
FROM valued($end_time)
INNER JOIN (
    SELECT user_id, count(*) AS new_events
    FROM interactions
    WHERE event_time < $end_time AND (event_time >= $held_time OR batch_id > $held_batch)
    GROUP BY user_id
) USING (user_id)
GROUP BY user_id;

-- name: changed_totals
SELECT
    coalesce(sum(new_events), 0) AS new_events,
    count(*) AS users,
    coalesce(sum(events), 0) AS events
FROM counted;

-- name: vocabulary
SELECT item_index, item_id
FROM items
WHERE item_index IS NOT NULL;
