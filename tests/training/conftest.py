"""A first state and a step, compiled once: that takes longer than all that is asked of them."""

import dataclasses
import functools
from typing import Any

import fake_archive
import jax
import jax.numpy as jnp
import pytest
from toys import QUICK, RUN, toy_config

from rejepa_jax.config import Config
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.training import loop, sharding
from rejepa_jax.training.compiling import compile_step
from rejepa_jax.training.state import TrainState, abstract_state, init_state
from rejepa_jax.training.step import Update


@dataclasses.dataclass(frozen=True)
class Run:
    """What belongs to a run on the devices of a mesh."""

    config: Config
    records: RecordSet
    update: Update
    mesh: jax.sharding.Mesh
    abstract: TrainState
    start: TrainState
    step: Any  # compiled; it takes the state that it is given


def compiled_step(update, mesh, abstract):
    """The step for eight uint16 images of 16 pixels and 3 bands, compiled for a mesh."""
    place = sharding.batch_sharding(mesh)

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct((8, *shape), dtype, sharding=place)

    batch = {
        "image": {"s2": array(jnp.uint16, 16, 16, 3)},
        "id": array(jnp.int32),
        "valid": array(jnp.bool),
    }
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    lowered = compile_step(update, places, place).lower(abstract, batch)
    return lowered.compile(compiler_options=QUICK)


def compiled_run(config, records, mesh):
    """A run on the devices of a mesh, its step compiled."""
    update = loop.make_update(config, records)
    parts = (update.method, update.optimizer, config.seed, mesh)
    abstract, start = abstract_state(*parts), init_state(*parts)
    step = compiled_step(update, mesh, abstract)
    return Run(config, records, update, mesh, abstract, start, step)


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """Eleven images to train on: the second batch of eight runs into the next epoch."""
    config = toy_config(**RUN)
    records = fake_archive.prepared(tmp_path_factory.mktemp("toy"), {"train": 11}, size=16)
    return compiled_run(config, records, sharding.make_mesh())


@pytest.fixture(scope="session")
def toy_run_on(toy_run):
    """Makes the same run on another mesh, or another run, once."""
    records, config = toy_run.records, toy_run.config
    return functools.cache(lambda mesh, config=config: compiled_run(config, records, mesh))
