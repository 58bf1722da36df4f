"""Looking after a root: what nights have left, and changes to it that are not part of a night."""
