"""Archive layouts, one file each: every one lists its items and reads one into an `Example`."""
