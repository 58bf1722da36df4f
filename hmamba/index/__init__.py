"""Search of item vectors: exact or by IVF lists, in float32 or float64."""
