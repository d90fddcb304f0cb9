"""All that training changes, as one pytree."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rejepa_jax.methods.contract import Method
from rejepa_jax.training import sharding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Step counter, trained parameters, their slow average where the method has one, moments."""

    step: Any  # int32 []; trees of shapes, places and flags are made of this class too
    params: Any
    average: Any
    opt_state: optax.OptState


def new_state(method: Method, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """Returns the state of step 0: the average starts as a copy of what it follows."""
    params = method.init(jax.random.key(seed))
    average = jax.tree.map(jnp.copy, method.averaged(params))
    return TrainState(jnp.zeros((), jnp.int32), params, average, optimizer.init(params))


def abstract_state(
    method: Method, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh
) -> TrainState:
    """Returns the state's shapes, dtypes and shardings without making any array."""
    shapes = jax.eval_shape(lambda: new_state(method, optimizer, seed))
    places = sharding.state_shardings(mesh, shapes)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        shapes,
        places,
    )


def init_state(
    method: Method, optimizer: optax.GradientTransformation, seed: int, mesh: Mesh
) -> TrainState:
    """Makes the state of step 0, each array created where it will stay."""
    abstract = abstract_state(method, optimizer, seed, mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(lambda: new_state(method, optimizer, seed), out_shardings=places)()
