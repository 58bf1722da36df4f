"""HMamba nightly: a hyperbolic Mamba recommender that retrains and publishes every night."""

__version__ = "0.1.0"
