"""Rules of the staged batch and of the candidates, checked with Great Expectations (imported lazily, takes 5 s)."""
