"""One update of the training state, pure: the same state and batch give the same result."""

import dataclasses

import jax
import optax

from rejepa_jax.config import Augment
from rejepa_jax.data.preprocess import Preprocess, random_view
from rejepa_jax.methods.contract import Method
from rejepa_jax.training.optim import Schedules, ema_update
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


def train_step(state: TrainState, batch: Batch, update: Update) -> tuple[TrainState, Metrics]:
    """Descends one step, then lets the average follow the updated parameters.

    Every random draw comes from the seed and the step, so a resumed run repeats the same ones.
    """
    method, schedules = update.method, update.schedules
    key = jax.random.fold_in(jax.random.key(update.seed), state.step)
    view_key, loss_key = jax.random.split(key)
    views = tuple(
        random_view(batch["image"], update.preprocess, update.augment, view_key)
        for view_key in jax.random.split(view_key, method.views)
    )

    gradient = jax.value_and_grad(method.loss, has_aux=True)
    (_, metrics), grads = gradient(state.params, state.average, views, loss_key)
    updates, opt_state = update.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    momentum = schedules.ema_momentum(state.step)
    average = ema_update(state.average, method.averaged(params), momentum)

    metrics |= {
        "learning_rate": schedules.learning_rate(state.step),
        "weight_decay": schedules.weight_decay(state.step),
        "gradient_norm": optax.tree.norm(grads),
    }
    if average is not None:
        metrics["ema_momentum"] = momentum
    return TrainState(state.step + 1, params, average, opt_state), metrics
