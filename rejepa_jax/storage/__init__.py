"""Files in object stores, and run directories that live there."""
