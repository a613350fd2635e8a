"""Training of the adapters around a frozen core, and the command that runs every training."""
