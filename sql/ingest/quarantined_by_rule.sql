SELECT rule, count(*) AS rows
FROM (SELECT unnest(rules) AS rule FROM quarantine WHERE batch_id = $batch_id AND kind = 'interactions')
GROUP BY rule
ORDER BY rule;
