"""The night's report: one self-contained HTML page from the output files of a run's steps."""
