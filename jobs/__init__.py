"""The steps of a night. Each is ``python -m jobs.NAME``, safe to run twice, and prints its metrics as one JSON line."""

import os

# Waiting OpenMP threads sleep instead of spinning. Spinning is only faster on a machine that does nothing else; beside
# any other load it made training several times slower. It has to be said before the first library starts its threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
