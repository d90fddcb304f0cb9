"""One update of the training state, pure: the same state and batch give the same result."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key

from rejepa_jax.config import Augment
from rejepa_jax.data.preprocess import Preprocess, random_view
from rejepa_jax.methods.contract import Method
from rejepa_jax.training.optim import Schedules, ema_update
from rejepa_jax.training.spreading import spread
from rejepa_jax.training.state import TrainState
from rejepa_jax.types import Batch, Metrics


@dataclasses.dataclass(frozen=True)
class Update:
    """What an update depends on beside state and batch; all of it is fixed before compilation."""

    method: Method
    optimizer: optax.GradientTransformation
    schedules: Schedules
    preprocess: Preprocess
    augment: Augment
    seed: int
    accumulate: int = 1  # parts that a batch is gone through in


def train_step(state: TrainState, batch: Batch, update: Update) -> tuple[TrainState, Metrics]:
    """Descends one step, then lets the average follow the updated parameters.

    Every random draw comes from the seed and the step, so a resumed run repeats the same ones.
    """
    schedules = update.schedules
    key = jax.random.fold_in(jax.random.key(update.seed), state.step)
    grads, metrics = (gradient if update.accumulate == 1 else mean_gradient)(
        state, batch, key, update
    )
    updates, opt_state = update.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    momentum = schedules.ema_momentum(state.step)
    average = ema_update(state.average, update.method.averaged(params), momentum)

    metrics |= {
        "learning_rate": schedules.learning_rate(state.step),
        "weight_decay": schedules.weight_decay(state.step),
        "gradient_norm": optax.tree.norm(grads),
    }
    if average is not None:
        metrics["ema_momentum"] = momentum
    return TrainState(state.step + 1, params, average, opt_state), metrics


def gradient(
    state: TrainState, batch: Batch, key: Key[Array, ""], update: Update
) -> tuple[Any, Metrics]:
    """Returns the gradient of the loss of a batch, and the loss's parts."""
    view_key, loss_key = jax.random.split(key)
    views = tuple(
        random_view(batch["image"], update.preprocess, update.augment, view_key)
        for view_key in jax.random.split(view_key, update.method.views)
    )

    def loss(params: Any) -> tuple[Array, Metrics]:
        return update.method.loss(spread(params), spread(state.average), views, loss_key)

    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    return grads, metrics


def mean_gradient(
    state: TrainState, batch: Batch, key: Key[Array, ""], update: Update
) -> tuple[Any, Metrics]:
    """Does the same part by part of the batch, in the memory of one; returns the parts' means.

    Each part has draws of its own. Losses that are means over images have the mean that the whole
    batch would have; VICReg's variances and covariances, a target norm over the batch and an
    expander's batch norms are those of a part, as if the batch were that small.
    """
    count = update.accumulate

    def part(number: Array) -> tuple[Any, Metrics]:
        # Every count-th image, so that each device goes on with images that it has.
        own = jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:])[:, number], batch)
        return gradient(state, own, jax.random.fold_in(key, number), update)

    def add(sums: Any, number: Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, part(number)), None

    shapes = jax.eval_shape(part, jnp.zeros((), jnp.int32))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    sums, _ = jax.lax.scan(add, zeros, jnp.arange(count))
    return jax.tree.map(lambda total: total / count, sums)
