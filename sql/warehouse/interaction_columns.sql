SELECT column_name FROM duckdb_columns() WHERE table_name = 'interactions' AND NOT internal;
