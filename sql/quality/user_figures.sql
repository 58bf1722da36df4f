SELECT
    count(c.user_id) AS users,
    count(*) FILTER (WHERE e.candidates > 0) AS expected_users,
    count(*) FILTER (WHERE c.user_id IS NULL AND e.candidates > 0) AS users_missing,
    count(*) FILTER (WHERE e.user_id IS NULL) AS users_unknown,
    count(*) FILTER (WHERE c.candidates <> e.candidates) AS users_with_wrong_count,
    count(*) FILTER (
        WHERE c.lowest <> 1 OR c.highest <> c.candidates OR NOT c.together_in_order
    ) AS users_with_wrong_ranks,
    count(*) FILTER (WHERE c.items <> c.candidates) AS users_with_repeated_item
FROM candidate_users AS c
FULL OUTER JOIN expected_users AS e ON c.user_id = e.user_id;
