"""Layout: your own scenes, cut into patches."""
