"""The training loop: steps, epochs, checkpoints, and being asked to stop."""
