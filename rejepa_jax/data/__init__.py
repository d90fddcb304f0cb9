"""From an archive on disk to normalised batches on the device."""
