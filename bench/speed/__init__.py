"""How fast: each part of the night beside what others do for the same result, in one run and in turns."""
