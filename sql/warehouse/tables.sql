SELECT count(*) AS tables FROM duckdb_tables() WHERE table_name = 'interactions' AND NOT temporary;
