"""Files that source systems drop: finding them, and reading them as Arrow batches with line numbers."""
