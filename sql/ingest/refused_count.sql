SELECT count(*) AS rows FROM refused;
