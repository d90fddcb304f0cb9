"""What a compiler says that has no room."""

from rejepa_jax.planning.compiling import read_refusal

USED = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    "Used 19.10G of 15.75G hbm. Exceeded hbm capacity by 3.35G.\n\nTotal hbm usage"
)
KEPT = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
    "(360.00G) exceeds available HBM (512.5M)."
)


def test_the_compilers_refusals():
    """Messages as libtpu 0.0.42 and its forerunners write them."""
    first, second = read_refusal(USED), read_refusal(KEPT)
    assert (first.needed, first.available) == (19.10 * 2**30, 15.75 * 2**30)
    assert first.message.endswith("by 3.35G.")
    assert (second.needed, second.available) == (360 * 2**30, 512.5 * 2**20)
    assert read_refusal("RESOURCE_EXHAUSTED: no figures").needed is None
    assert read_refusal("INTERNAL: something else") is None
