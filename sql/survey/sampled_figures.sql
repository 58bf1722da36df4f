-- $latest: later events are taken for damaged. $earliest: the default of quality.min_time.
SELECT
    count(*) AS rows,
    count(DISTINCT user_id) AS users,
    count(DISTINCT item_id) AS items,
    min(moment) FILTER (WHERE moment > TIMESTAMP '1970-01-02' OR moment < TIMESTAMP '1970-01-01') AS oldest,
    max(moment) FILTER (WHERE moment < $latest) AS newest,
    count(*) FILTER (WHERE moment >= $latest) AS after_latest,
    count(*) FILTER (WHERE moment < $earliest AND (moment > TIMESTAMP '1970-01-02' OR moment < TIMESTAMP '1970-01-01')) AS before_earliest,
    count(*) FILTER (WHERE moment BETWEEN TIMESTAMP '1970-01-01' AND TIMESTAMP '1970-01-02') AS at_zero,
    min(weight) AS smallest_weight,
    max(weight) AS largest_weight,
    count(DISTINCT weight) AS distinct_weights
FROM sampled;
