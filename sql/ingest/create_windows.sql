-- What of each file of the pull is to be considered; see the macros is_left and was_considered.
CREATE OR REPLACE TEMP TABLE windows AS
SELECT
    unnest(CAST($files AS INTEGER[])) AS file,
    unnest(CAST($starts AS TIMESTAMP[])) AS start,
    unnest(CAST($refused_from AS TIMESTAMP[])) AS refused_from;
