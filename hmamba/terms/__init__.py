"""Score terms: evidence that is added to the base score of some candidate items."""
