"""The training step as one program for all devices of a mesh."""

from typing import Any

import jax

from rejepa_jax.training.state import TrainState
from rejepa_jax.training.step import Update, train_step
from rejepa_jax.types import Batch, Metrics


def compile_step(update: Update, places: Any, batch_place: jax.sharding.NamedSharding) -> Any:
    """Returns the jitted step: the state is donated and stays where it is."""
    mesh = batch_place.mesh.abstract_mesh

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        with jax.sharding.use_abstract_mesh(mesh):
            return train_step(state, batch, update)

    return jax.jit(
        step,
        in_shardings=(places, batch_place),
        out_shardings=(places, None),
        donate_argnums=0,
    )
