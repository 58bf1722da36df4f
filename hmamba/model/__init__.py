"""HMamba (arXiv 2505.09205): Lorentz geometry, the selective scan, the encoder and its scores."""
