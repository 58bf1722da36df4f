SELECT rule, count(*) AS rows FROM (SELECT unnest(rules) AS rule FROM refused) GROUP BY rule ORDER BY rule;
