"""Eight CPU devices, rank promotion raises, and where the real images are, if they are here."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    + " --xla_backend_optimization_level=0"  # compiling costs more than anything that is run
)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def key():
    """A fixed random key."""
    return jax.random.key(0)


@pytest.fixture
def shared_data():
    """The folder of real development images, which only a development checkout has beside it."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/data (real images, not part of the project)")
    return SHARED
