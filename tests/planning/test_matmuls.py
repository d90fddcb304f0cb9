"""Operations of products written by hand, and of those that XLA itself counts."""

import jax
import jax.numpy as jnp
import pytest

from rejepa_jax.planning.hlo import parse
from rejepa_jax.planning.matmuls import matmuls

PROGRAM = """HloModule step

ENTRY %main (a: {left}, b: {right}) -> {out} {{
  %a = {left} parameter(0)
  %b = {right} parameter(1)
  ROOT %made = {out} {line}
}}
"""


def only(left, right, out, line):
    (found,) = matmuls(parse(PROGRAM.format(left=left, right=right, out=out, line=line)))
    return found


def test_a_dot():
    line = "dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}"
    found = only("f32[3,4]{1,0}", "f32[4,5]{1,0}", "f32[3,5]{1,0}", line)
    assert (found.flops, found.is_float32, found.precision) == (2 * 3 * 4 * 5, True, "default")


def test_a_batched_dot_in_bfloat16_with_a_wide_result_is_not_float32():
    line = (
        "dot(%a, %b), lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}, "
        "rhs_contracting_dims={2}"
    )
    found = only("bf16[7,3,4]", "bf16[7,5,4]", "f32[7,3,5]", line)
    assert (found.flops, found.is_float32) == (7 * 2 * 3 * 4 * 5, False)


def test_a_product_as_the_tpu_compiler_writes_it():
    line = "convolution(%a, %b), dim_labels=bf_io->bf, operand_precision={highest,highest}"
    found = only("f32[3,4]", "f32[4,5]", "f32[3,5]", line)
    assert (found.flops, found.precision) == (2 * 3 * 4 * 5, "highest")


def test_a_batched_product_as_the_tpu_compiler_writes_it():
    """Eight images of two heads: the windows' holes make each place meet one value alone."""
    line = (
        "convolution(%a, %b), window={size=8x2 stride=7x1 lhs_dilate=8x2}, "
        "dim_labels=0b1f_0o1i->01bf"
    )
    found = only("bf16[8,64,2,128]", "bf16[8,64,2,128]", "f32[8,2,64,64]", line)
    assert found.flops == 8 * 2 * (2 * 64 * 64 * 128)


def test_padding_is_no_work():
    """Three places and a window of three: seven of the nine pairs are inside."""
    line = "convolution(%a, %b), window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f"
    assert only("f32[1,3,1]", "f32[3,1,1]", "f32[1,3,1]", line).flops == 2 * 7


def test_a_product_of_cublas():
    config = (
        'backend_config={"gemm_backend_config":{"dot_dimension_numbers":'
        '{"lhs_contracting_dimensions":["0"],"rhs_contracting_dimensions":["0"]}}}'
    )
    line = f'custom-call(%a, %b), custom_call_target="__cublas$gemm", {config}'
    found = only("bf16[4,3]", "bf16[4,5]", "(bf16[3,5], s8[64])", line)
    assert found.flops == 2 * 3 * 4 * 5


def test_what_is_no_product_is_none():
    text = PROGRAM.format(left="f32[3]", right="f32[3]", out="f32[3]", line="add(%a, %b)")
    assert matmuls(parse(text)) == []


def test_a_loop_costs_its_trips():
    """Seven products of a compiled scan, of which XLA's own analysis counts one."""

    def run(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    shapes = jax.ShapeDtypeStruct((4, 8), jnp.float32), jax.ShapeDtypeStruct((7, 8, 8), jnp.float32)
    compiled = jax.jit(run).lower(*shapes).compile()
    (found,) = matmuls(parse(compiled.as_text()))
    assert (found.count, found.flops) == (7, 7 * 2 * 4 * 8 * 8)
    assert compiled.cost_analysis()["flops"] < found.flops / 3
    assert found.source.endswith("test_matmuls.py:" + str(run.__code__.co_firstlineno + 1))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_convolutions_are_counted_as_xla_counts_them(stride, padding):
    def run(x, w):
        return jax.lax.conv_general_dilated(x, w, (stride, stride), padding, rhs_dilation=(2, 1))

    shapes = (
        jax.ShapeDtypeStruct((2, 3, 9, 8), "float32"),
        jax.ShapeDtypeStruct((4, 3, 3, 2), "float32"),
    )
    lowered = jax.jit(run).lower(*shapes)
    text = lowered.compile().as_text()
    if " convolution(" not in text:
        pytest.skip("this compiler writes it another way")
    assert matmuls(parse(text))[0].flops == lowered.cost_analysis()["flops"]
