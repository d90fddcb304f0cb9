"""Training methods, one page each, behind one small contract."""
