"""Plans by the TPU compiler itself, held against counts that do not come from it.

Each is a process of its own, for libtpu reads its environment when it is loaded.
"""

import importlib.util
import json
import math
import subprocess
import sys

import jax
import pytest
from toys import toy_config

from rejepa_jax.methods.build import build_method
from rejepa_jax.models.arrays import count_parameters

SIZES = {
    **{"embed_dim": 128, "depth": 3, "num_heads": 1},
    **{"predictor_dim": 128, "predictor_depth": 3},
}
IMAGES = 8  # a chip
pytestmark = [pytest.mark.slow, pytest.mark.interop]


def plan(tmp_path, *arguments):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("needs the TPU compiler (extra `tpu`)")
    settings = {f"model.{name}": value for name, value in SIZES.items()} | {"data.image_size": 64}
    config = tmp_path / "toy.py"
    config.write_text(
        "from rejepa_jax.config import base_config\n\n\ndef get_config():\n"
        f"    config = base_config()\n    config.update_from_flattened_dict({settings})\n"
        "    return config.lock()\n"
    )
    command = [sys.executable, "-m", "rejepa_jax.cli", "plan", str(config), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_a_toy_on_eight_chips(tmp_path):
    found = plan(tmp_path, "--topology", "v5e:2x4", "--images_per_chip", str(IMAGES))
    assert (found["devices"], found["kind"], found["batch_size"]) == (8, "TPU v5 lite", 64)
    assert (found["dtype"], found["fits"]) == ("bfloat16", True)
    program, memory = found["program"], found["program"]["memory"]

    model = SIZES | {"patch_size": 16}
    config = toy_config(model=model, data={"image_size": 64}, mask={"target_ratio": 0.25})
    method = build_method(config, 12)
    trained = count_parameters(jax.eval_shape(method.init, jax.random.key(0)))
    assert memory["parameters"] == 4 * trained
    assert memory["batch"] == IMAGES * (120 * 120 * 12 * 2 + 4 + 1)
    assert memory["total"] < found["available"]

    # The products are the method's, less the gradient of the pixels, and those of the resampling.
    unneeded = 2 * 12 * (16 * 16 * 12) * 128  # 12 of 16 tokens are context
    resampling = 2 * 64 * 120 * 12 * (120 + 64)
    expected = sum(method.flops.values()) - unneeded + resampling
    assert program["flops"] / IMAGES == pytest.approx(expected, rel=0.01)

    # The gradient is summed after the loops over layers: in few pieces, all of it and little else.
    (reduced,) = program["collectives"]
    assert (reduced["kind"], reduced["group"]) == ("all-reduce", 8)
    assert reduced["count"] <= 6
    assert reduced["payload"] == pytest.approx(4 * trained, rel=0.1)

    # What is float32 by intent: the resampling and the statistics of the features.
    wide = [m for m in program["matmuls"] if "f32" in m["operands"]]
    assert sum(m["flops"] for m in wide if "models" in m["source"]) < 0.02 * program["flops"]
    roofline = program["roofline"]
    passes = {"default": 1, "high": 3, "highest": 6}
    work = sum(m["flops"] * passes[m["precision"]] for m in program["matmuls"])
    assert math.isclose(roofline["compute"], work / 197e12)


def test_a_batch_that_does_not_fit_is_refused_with_the_compilers_figure(tmp_path):
    found = plan(tmp_path, "--topology", "v5e:2x2", "--images_per_chip", "65536")
    assert found["fits"] is False
    assert found["program"] is None
    assert found["refused"]["available"] == 15.75 * 2**30
    assert found["left"] == found["refused"]["available"] - found["refused"]["needed"] < 0


def test_no_such_slice(tmp_path):
    with pytest.raises(AssertionError, match="whole hosts"):
        plan(tmp_path, "--topology", "v5e:3x5")
