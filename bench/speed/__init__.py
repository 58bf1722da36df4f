"""Speed benchmarks: parts of the night against alternatives with the same result, timed in turns in one run."""
