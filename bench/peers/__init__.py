"""Other people's recommenders, each in an environment of its own, fed and read through Parquet files."""
