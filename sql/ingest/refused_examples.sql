SELECT file, line, rules FROM refused ORDER BY file, line LIMIT $limit;
