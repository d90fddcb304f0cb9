"""All that training changes, as one pytree."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rejepa_jax.methods.contract import Method
from rejepa_jax.models.vit import Encoder
from rejepa_jax.training import sharding


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Step counter, trained parameters, their slow average where the method has one, moments."""

    step: Any  # int32 []; trees of shapes, places and flags are made of this class too
    params: Any
    average: Any
    opt_state: optax.OptState


def initial_params(method: Method, seed: int, start: Encoder | None = None) -> Any:
    """Returns the parameters of step 0, with a given encoder if there is one."""
    params = method.init(jax.random.key(seed))
    return params if start is None else method.start_from(params, start)


def new_state(
    method: Method,
    optimizer: optax.GradientTransformation,
    seed: int,
    start: Encoder | None = None,
) -> TrainState:
    """Returns the state of step 0: the average starts as a copy of what it follows."""
    params = initial_params(method, seed, start)
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
    method: Method,
    optimizer: optax.GradientTransformation,
    seed: int,
    mesh: Mesh,
    start: Encoder | None = None,
) -> TrainState:
    """Makes the state of step 0, each array created where it will stay."""
    abstract = abstract_state(method, optimizer, seed, mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    make = jax.jit(lambda start: new_state(method, optimizer, seed, start), out_shardings=places)
    return make(start)
