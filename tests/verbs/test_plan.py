"""The verb `rejepa plan` on simulated devices: what it prints, and what it refuses."""

import argparse
import json

import pytest
from absl import flags

from rejepa_jax.types import ConfigError
from rejepa_jax.verbs import planning

TOY = """from rejepa_jax.config import base_config


def get_config():
    config = base_config()
    config.update_from_flattened_dict({
        "data.sensor": "s1", "data.image_size": 16, "model.patch_size": 8, "model.embed_dim": 16,
        "model.depth": 1, "model.num_heads": 2, "model.predictor_dim": 8,
        "model.predictor_depth": 1, "train.batch_size": 16,
    })
    return config.lock()
"""


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    yield str(tmp_path / "toy.py")
    for name in [name for name in flags.FLAGS if name == "config"]:
        delattr(flags.FLAGS, name)


def run(*arguments):
    root = argparse.ArgumentParser()
    verbs = root.add_subparsers()

    def verb(name, act):
        made = verbs.add_parser(name)
        made.set_defaults(act=act)
        return made

    planning.add_verbs(verb)
    parsed, settings = root.parse_known_args(["plan", *arguments])
    parsed.settings = settings
    return parsed.act(parsed)


@pytest.mark.slow
def test_a_plan_in_json(toy, capsys):
    assert run(toy, "--topology", "cpu:4", "--json", "--config.model.remat=block") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["devices"], found["images_per_chip"], found["remat"]) == (4, 4, "block")
    assert found["record"] == "float32 120 x 120 x 2"
    assert found["fits"] is True


def test_what_is_asked_for_reaches_the_plan(toy, monkeypatch):
    asked = {}

    def make_plan(topology, config, images, *, is_largest):
        asked.update(name=topology.name, size=config.data.image_size, batch=images)
        raise ConfigError(f"largest: {is_largest}")

    monkeypatch.setattr(planning, "make_plan", make_plan)
    settings = ["--config.data.image_size=24", "--images_per_chip", "8", "--find_largest"]
    with pytest.raises(ConfigError, match="largest: True"):
        run(toy, "--topology", "cpu:4", *settings)
    assert asked == {"name": "cpu:4", "size": 24, "batch": 8}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--topology", "v5e"], "expected a TPU slice"),
        (["--topology", "cpu:3"], "must be a multiple of the 3 devices"),
        (["--topology", "cpu:4", "--images_per_chip", "0"], "give at least 1"),
        (["--topology", "cpu:4", "--config.mesh.fsdp=3"], "do not make up the 4 devices"),
        (["--topology", "cpu:4", "--config.data.sensor=image"], "set config.data.bands"),
    ],
)
def test_what_cannot_be_planned(toy, arguments, match):
    with pytest.raises(ConfigError, match=match):
        run(toy, *arguments)
