"""Indexes of one small interface: built into a folder, loaded from it, searched by vector."""
