"""How good a ranking is, from any system: every metric by name, with its interval."""
