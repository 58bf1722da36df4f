"""The steps of a night. Each is ``python -m jobs.NAME``, safe to run twice, and prints its metrics as one JSON line."""

import os

from hmamba.processes import end_with_starter

# Waiting OpenMP threads sleep instead of spinning. Spinning is only faster on a machine that does nothing else; beside
# any other load it made training several times slower. Libraries read the variable when they start their threads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

end_with_starter()  # here and not in the step: its imports take seconds, in which its starter may end
