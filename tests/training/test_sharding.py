import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.training import sharding
from rejepa_jax.types import ConfigError


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh()


def test_mesh_holds_every_device_along_one_axis(mesh):
    assert mesh.axis_names == ("data",)
    assert mesh.devices.tolist() == jax.devices()
    assert mesh.size == 8


def test_batch_is_split_in_order_over_the_devices(mesh):
    rows = jax.device_put(jnp.arange(16), sharding.batch_sharding(mesh))
    for shard in rows.addressable_shards:
        place = mesh.devices.tolist().index(shard.device)
        np.testing.assert_array_equal(shard.data, [2 * place, 2 * place + 1])


def test_replicated_values_are_whole_on_every_device(mesh):
    rows = jax.device_put(jnp.arange(3), sharding.replicated(mesh))
    assert len(rows.addressable_shards) == 8
    assert all((np.asarray(shard.data) == [0, 1, 2]).all() for shard in rows.addressable_shards)


@pytest.mark.parametrize(("batch_size", "better"), [(12, 16), (3, 8), (100, 104)])
def test_batch_that_does_not_divide_is_refused(mesh, batch_size, better):
    message = rf"train\.batch_size = {batch_size} must be a multiple of the 8 devices; try {better}"
    with pytest.raises(ConfigError, match=message):
        sharding.check_batch_size(mesh, batch_size, "train.batch_size")


def test_batch_that_divides_is_accepted(mesh):
    sharding.check_batch_size(mesh, 24, "train.batch_size")


def test_abstract_state_has_places_and_no_arrays(toy_run):
    leaves = jax.tree.leaves(toy_run.abstract)
    assert all(type(leaf) is jax.ShapeDtypeStruct for leaf in leaves)
    assert all(leaf.sharding.spec == PartitionSpec() for leaf in leaves)


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
