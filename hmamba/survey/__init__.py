"""Looking into files that have not been read yet: what their columns are, and what a pull would say of them."""
