import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toys import QUICK, filled

from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.models.transformer import run_blocks, stacked_blocks

DIM, DEPTH, HEADS = 16, 3, 2
ROWS = 5  # tokens of an image
rng = np.random.default_rng(3)
TOKENS = rng.normal(size=(2, ROWS, DIM)).astype(np.float32)
VISIBLE = np.ones((2, 1, ROWS), bool)
VISIBLE[0, 0, 3] = False


@pytest.fixture(scope="module")
def blocks():
    return filled(lambda: stacked_blocks(DIM, DEPTH, HEADS, 4.0, "float32", nnx.Rngs(0)))


def gradients(blocks, remat, *, unroll=False):
    def loss(blocks, tokens):
        out = run_blocks(blocks, tokens, jnp.asarray(VISIBLE), unroll=unroll, remat=remat)
        return jnp.sum(jnp.sin(out))

    grads = jax.jit(jax.grad(loss, argnums=(0, 1)), compiler_options=QUICK)(blocks, TOKENS)
    return named_arrays(grads)


@pytest.mark.parametrize(("remat", "unroll"), [("dots", False), ("block", False), ("block", True)])
def test_what_is_computed_again_gives_the_same_gradients(blocks, remat, unroll):
    wanted = gradients(blocks, "none")
    for name, got in gradients(blocks, remat, unroll=unroll).items():
        scale = np.abs(wanted[name]).max()
        np.testing.assert_allclose(got, wanted[name], atol=2e-6 * scale, rtol=0, err_msg=name)


def kept(blocks, remat):
    """Numbers that lie in memory from the forward to the backward pass, weights left out."""
    shapes = jax.eval_shape(
        lambda blocks, tokens: jax.vjp(lambda *a: run_blocks(*a, remat=remat), blocks, tokens)[1],
        blocks,
        TOKENS,
    )
    return sum(leaf.size for leaf in jax.tree.leaves(shapes) if leaf.shape[1:2] == (2,))


def test_what_each_setting_keeps_by_hand(blocks):
    per_layer = 2 * ROWS * DIM
    # Every block's input.
    assert kept(blocks, "block") == DEPTH * per_layer
    # Beside it query, key and value (3), what attention adds (1), and the MLP's first layer (4).
    assert kept(blocks, "dots") == DEPTH * per_layer * 9
    # And the values that attention mixed, with two numbers of each head's softmax.
    assert kept(blocks, "none") == DEPTH * (per_layer * 10 + 2 * HEADS * ROWS * 2)
