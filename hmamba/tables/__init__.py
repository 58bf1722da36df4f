"""Tables beside the candidates: similar items, popular items, users for items, and vectors."""
