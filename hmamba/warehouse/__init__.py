"""The DuckDB file: who may open it, what is in it, and how a pull changes it."""
