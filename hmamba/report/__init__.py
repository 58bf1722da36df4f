"""The night's report: one self-contained HTML page, from what the steps of a run left behind."""
