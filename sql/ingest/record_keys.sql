SELECT DISTINCT unnest(json_keys(__record))
FROM chunk
WHERE CASE WHEN json_valid(__record) THEN json_type(__record) = 'OBJECT' ELSE false END;
