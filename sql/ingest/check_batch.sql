-- Counted in the tables themselves, not taken from the figures that were written.
SELECT
    (SELECT count(*) FROM interactions WHERE batch_id = $batch_id) AS loaded,
    (SELECT count(*) FROM quarantine WHERE batch_id = $batch_id AND kind = 'interactions') AS quarantined,
    (SELECT count(*) FROM items WHERE item_index IS NOT NULL) AS indexed,
    (SELECT coalesce(max(item_index), 0) FROM items) AS highest_index,
    (SELECT count(DISTINCT item_index) FROM items) AS distinct_indices,
    (SELECT count(*) - count(DISTINCT item_id) FROM items) AS repeated_items;
