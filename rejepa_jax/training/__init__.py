"""State, optimiser, sharding, step, loop and checkpoints; knows no method by name."""
