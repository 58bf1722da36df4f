"""Where a root's files lie and how they are written: whole or not at all."""
