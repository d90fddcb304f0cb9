"""REJEPA in JAX: learn image descriptors from Earth-observation archives, then search them."""

__version__ = "0.1.0"
