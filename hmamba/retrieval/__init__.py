"""Retrieval: item vectors, the FAISS index over Lorentz points, candidates for every user."""
