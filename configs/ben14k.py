"""placeholder"""

from rejepa_jax.config import base_config


def get_config():
    config = base_config()
    config.data.layout = "bigearthnet"
    config.data.selection = "ben14k"
    return config.lock()
