"""What the `rejepa` command can do: a file for each kind of verb."""
