"""Invented scenes for the synthetic archive: what lies where, and how it looks from above."""
