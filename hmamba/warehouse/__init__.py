"""The warehouse, a DuckDB file: connections, tables, and the pull that loads new data."""
