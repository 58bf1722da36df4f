"""Rules of what is recommended: who must not get what, how many of a kind, what comes first."""
