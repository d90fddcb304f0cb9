"""Layouts: fMoW-RGB and fMoW-Sentinel."""
