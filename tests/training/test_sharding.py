import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from toys import toy_config

from rejepa_jax.config import Mesh
from rejepa_jax.methods.build import build_method
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.training import sharding
from rejepa_jax.training.optim import Schedules, make_optimizer
from rejepa_jax.training.state import abstract_state
from rejepa_jax.types import ConfigError


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh()


def places(mesh):
    """Devices in the order in which they take the parts of a batch."""
    return mesh.devices.reshape(-1).tolist()


def test_mesh_holds_every_device_along_data_by_default(mesh):
    assert mesh.axis_names == ("data", "fsdp", "tensor")
    assert mesh.devices.shape == (8, 1, 1)
    assert places(mesh) == jax.devices()


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (Mesh(fsdp=2), (4, 2, 1)),
        (Mesh(data=1, fsdp=8), (1, 8, 1)),
        (Mesh(fsdp=2, tensor=2), (2, 2, 2)),
    ],
)
def test_data_takes_what_the_other_axes_leave(shape, sizes):
    assert sharding.make_mesh(shape).devices.shape == sizes


@pytest.mark.parametrize("shape", [Mesh(fsdp=3), Mesh(data=4), Mesh(fsdp=16), Mesh(data=8, fsdp=2)])
def test_mesh_that_does_not_make_up_the_devices_is_refused(shape):
    with pytest.raises(ConfigError, match=r"do not make up the 8 devices; choose"):
        sharding.make_mesh(shape)


def test_mesh_of_some_devices():
    mesh = sharding.make_mesh(Mesh(fsdp=2), jax.devices()[2:6])
    assert mesh.devices.shape == (2, 2, 1)
    assert places(mesh) == jax.devices()[2:6]


@pytest.mark.parametrize("shape", [Mesh(), Mesh(fsdp=4), Mesh(fsdp=2, tensor=2)])
def test_batch_is_split_in_order_over_data_and_fsdp(shape):
    mesh = sharding.make_mesh(shape)
    rows = jax.device_put(jnp.arange(16), sharding.batch_sharding(mesh))
    each = 2 * shape.tensor
    for shard in rows.addressable_shards:
        part = places(mesh).index(shard.device) // shape.tensor
        np.testing.assert_array_equal(shard.data, np.arange(part * each, (part + 1) * each))


def test_replicated_values_are_whole_on_every_device(mesh):
    rows = jax.device_put(jnp.arange(3), sharding.replicated(mesh))
    assert len(rows.addressable_shards) == 8
    assert all((np.asarray(shard.data) == [0, 1, 2]).all() for shard in rows.addressable_shards)


@pytest.mark.parametrize(("batch_size", "better"), [(12, 16), (3, 8), (100, 104)])
def test_batch_that_does_not_divide_is_refused(mesh, batch_size, better):
    message = (
        rf"train\.batch_size = {batch_size} must be a multiple of the 8 devices .* try {better}"
    )
    with pytest.raises(ConfigError, match=message):
        sharding.check_batch_size(mesh, batch_size, "train.batch_size")


def test_batch_that_divides_is_accepted(mesh):
    sharding.check_batch_size(mesh, 24, "train.batch_size")
    sharding.check_batch_size(sharding.make_mesh(Mesh(tensor=2)), 4, "train.batch_size")


# Rows: name in the state, shape, where 2 x 4 x 2 devices cut it.
RULE = [
    (
        "params/encoder/blocks/attention/qkv/kernel",
        (12, 768, 2304),
        (None, "fsdp", "tensor"),
    ),
    (
        "average/blocks/attention/project/kernel",
        (12, 768, 768),
        (None, "tensor", "fsdp"),
    ),
    ("average/blocks/mlp/up/kernel", (12, 768, 3072), (None, "fsdp", "tensor")),
    ("opt_state/0/mu/predictor/blocks/mlp/down/kernel", (12, 1536, 384), (None, "tensor", "fsdp")),
    ("params/predictor/blocks/mlp/up/bias", (12, 1536), (None, "tensor")),
    ("params/predictor/blocks/mlp/down/bias", (12, 384), (None, None)),
    ("average/blocks/norm1/scale", (12, 768), (None, None)),
    ("average/patch_embed/kernel", (3072, 768), ("fsdp", None)),  # the larger axis
    ("params/predictor/project/kernel", (384, 768), (None, "fsdp")),  # not one of a block
    ("average/positions", (196, 768), (None, "fsdp")),
    ("params/predictor/mask_token", (384,), (None,)),
    ("params/expander/hidden/0/linear/kernel", (770, 2048), (None, "fsdp")),
    ("average/blocks/mlp/up/kernel", (4, 6, 5), (None, None, None)),  # neither divides anything
    ("average/patch_embed/kernel", (18, 12), (None, "fsdp")),  # the larger one does not divide
    ("opt_state/0/count", (), ()),
]


@pytest.mark.parametrize(("name", "shape", "cuts"), RULE)
def test_what_splits_an_array(name, shape, cuts):
    mesh = jax.sharding.AbstractMesh((2, 4, 2), sharding.AXES)
    assert sharding.partition(name, shape, mesh) == PartitionSpec(*cuts)


def test_moments_and_average_lie_as_their_parameter_does():
    method = build_method(toy_config(), bands=3)
    optimizer = make_optimizer(Schedules(toy_config().optim, toy_config().ema, 6))
    state = abstract_state(method, optimizer, 0, sharding.make_mesh(Mesh(fsdp=2, tensor=2)))
    specs = {name: leaf.sharding.spec for name, leaf in named_arrays(state).items()}
    for name, spec in named_arrays(state.params).items():
        assert (
            specs[f"opt_state/0/mu/{name}"] == specs[f"opt_state/0/nu/{name}"] == spec.sharding.spec
        )
    for name, leaf in named_arrays(state.average).items():
        assert specs[f"params/context_encoder/{name}"] == leaf.sharding.spec


def test_abstract_state_has_places_and_no_arrays(toy_run):
    leaves = jax.tree.leaves(toy_run.abstract)
    assert all(type(leaf) is jax.ShapeDtypeStruct for leaf in leaves)
    assert all(leaf.sharding.is_fully_replicated for leaf in leaves)


def test_state_is_what_the_abstract_state_promised(toy_run):
    promised, arrays = named_arrays(toy_run.abstract), named_arrays(toy_run.start)
    assert arrays.keys() == promised.keys()
    for name, array in arrays.items():
        want = promised[name]
        assert (array.shape, array.dtype, array.sharding) == (want.shape, want.dtype, want.sharding)


def test_state_is_float32_and_starts_at_step_0(toy_run):
    state = toy_run.start
    assert int(state.step) == 0
    trained = named_arrays((state.params, state.average)).values()
    assert {array.dtype for array in trained} == {jnp.dtype("float32")}


def test_average_starts_as_a_copy_of_the_context_encoder(toy_run):
    average = named_arrays(toy_run.start.average)
    for name, array in named_arrays(toy_run.start.params["context_encoder"]).items():
        np.testing.assert_array_equal(average[name], array)


def test_encoder_and_predictor_start_from_numbers_of_their_own(toy_run):
    arrays = named_arrays(toy_run.start.params)
    first = np.ravel(arrays["context_encoder/patch_embed/kernel"])[:128]
    second = np.ravel(arrays["predictor/embed/kernel"])[:128]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.35  # four deviations of 1 / sqrt(128)
