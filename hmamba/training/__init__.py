"""Training: windows and batches, the loss, the loop with its checkpoints."""
