"""Search that compares every row: on a CPU, and on an accelerator."""
