SELECT file, count(*) AS refused FROM refused GROUP BY file ORDER BY file;
