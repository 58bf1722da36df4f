"""Great Expectations: rules for the staged batch and for the candidates. It is imported when first needed (5 s)."""
