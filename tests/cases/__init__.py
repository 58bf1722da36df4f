"""Small inputs of kinds that have gone wrong in other tools, each with what must come of it. `make cases` runs them."""
