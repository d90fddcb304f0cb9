"""A first state and a step, compiled once: that takes longer than all that is asked of them."""

import dataclasses
from typing import Any

import fake_archive
import jax
import pytest
from toys import RUN, toy_config

from rejepa_jax.config import Config
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.training import loop, sharding
from rejepa_jax.training.state import TrainState, abstract_state, init_state
from rejepa_jax.training.step import Update


@dataclasses.dataclass(frozen=True)
class Run:
    """What belongs to a run on all eight devices."""

    config: Config
    records: RecordSet
    update: Update
    mesh: jax.sharding.Mesh
    abstract: TrainState
    start: TrainState
    step: Any  # compiled; it takes the state that it is given


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory):
    """Eleven images to train on: the second batch of eight runs into the next epoch."""
    config = toy_config(**RUN)
    records = fake_archive.prepared(tmp_path_factory.mktemp("toy"), {"train": 11}, size=16)
    update, mesh = loop.make_update(config, records), sharding.make_mesh()
    parts = (update.method, update.optimizer, config.seed, mesh)
    abstract, start = abstract_state(*parts), init_state(*parts)
    places = jax.tree.map(lambda array: array.sharding, start)
    step = loop.compile_step(update, places, sharding.batch_sharding(mesh))
    return Run(config, records, update, mesh, abstract, start, step)
