SELECT type, count(*) AS events FROM sampled WHERE type IS NOT NULL GROUP BY type ORDER BY events DESC, type;
