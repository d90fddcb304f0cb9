"""What a training step costs on devices that are not there, read from its compiled program."""
