"""What is added to the base score of some items: evidence that is counted, not learned."""
