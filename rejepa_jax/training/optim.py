"""AdamW and the paper's three schedules, each a function of the step (paper 4.2)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rejepa_jax.config import Ema, Optim
from rejepa_jax.models.arrays import named_arrays

Step = Any  # an int, or an integer array
Value = Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Schedules:
    """Learning rate, weight decay and EMA momentum over a run of `steps` steps, counted from 0."""

    optim: Optim
    ema: Ema
    steps: int

    def learning_rate(self, step: Step) -> Value:
        """Rises linearly from start to peak, then falls along a half cosine to the end value."""
        optim, step = self.optim, jnp.asarray(step, float)
        warm = optim.start_lr + (optim.peak_lr - optim.start_lr) * step / max(optim.warmup_steps, 1)
        progress = (step - optim.warmup_steps) / max(self.steps - optim.warmup_steps, 1)
        cooled = _half_cosine(optim.peak_lr, optim.end_lr, progress)
        return jnp.where(step < optim.warmup_steps, warm, cooled)

    def weight_decay(self, step: Step) -> Value:
        """Rises over the whole run ("gradually", paper 4.2): a half cosine (I-JEPA), or a line."""
        start, end = self.optim.weight_decay_start, self.optim.weight_decay_end
        progress = jnp.asarray(step, float) / self.steps
        if self.optim.weight_decay_schedule == "linear":
            return start + (end - start) * progress
        return _half_cosine(start, end, progress)

    def ema_momentum(self, step: Step) -> Value:
        """The share of the target encoder's old weights that an update keeps."""
        start, end = self.ema.start, self.ema.end
        if self.ema.schedule == "constant":
            end = start
        return start + (end - start) * jnp.asarray(step, float) / self.steps


def _half_cosine(start: float, end: float, progress: Value) -> Value:
    return end + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))


UNDECAYED = ("bias", "scale", "positions")


def is_decayed(params: Any) -> Any:
    """Returns which arrays weight decay touches: all but biases, norms and learned positions.

    Class and mask tokens are decayed, as in the published I-JEPA and MAE.
    """
    flags = [name.rsplit("/", 1)[-1] not in UNDECAYED for name in named_arrays(params)]
    return jax.tree.unflatten(jax.tree.structure(params), flags)


def make_optimizer(schedules: Schedules) -> optax.GradientTransformation:
    """AdamW whose learning rate and decay follow the schedules; the decay is times the rate."""
    optim = schedules.optim
    return optax.adamw(
        schedules.learning_rate,
        b1=optim.beta1,
        b2=optim.beta2,
        eps=optim.eps,
        weight_decay=schedules.weight_decay,
        mask=is_decayed,
    )


def ema_update(average: Any, params: Any, momentum: Value) -> Any:
    """Returns momentum · average + (1 - momentum) · params, array by array."""
    return jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, average, params)
