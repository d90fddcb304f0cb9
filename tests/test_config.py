import dataclasses
import json
import pathlib
import runpy

import pytest
from ml_collections import config_dict

from rejepa_jax.config import Config, base_config, epochs_to_steps
from rejepa_jax.presets import PRESETS
from rejepa_jax.resolve import resolve
from rejepa_jax.rules import CHOICES
from rejepa_jax.types import ConfigError


def changed(path, value):
    """A dict of settings in which one, named by its path, is given."""
    *groups, key = path.split(".")
    out = {key: value}
    for group in reversed(groups):
        out = {group: out}
    return out


def look_up(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


# --- defaults


def test_defaults_are_the_papers():
    config = resolve(base_config())
    assert config.model.patch_size == 16
    assert (config.model.embed_dim, config.model.depth, config.model.num_heads) == (768, 12, 12)
    assert (config.model.predictor_dim, config.model.predictor_depth) == (384, 12)
    assert (config.data.image_size, config.mask.target_ratio) == (224, 0.25)
    assert (config.optim.start_lr, config.optim.peak_lr, config.optim.end_lr) == (1e-4, 1e-3, 1e-6)
    assert (config.optim.weight_decay_start, config.optim.weight_decay_end) == (0.04, 0.4)
    assert (config.ema.start, config.ema.end, config.ema.schedule) == (0.996, 1.0, "linear")
    assert config.train.batch_size == 128
    assert config.eval.encoder == "target"


def test_base_config_holds_every_setting_and_its_default():
    filled = resolve({})
    names = ("embed_dim", "depth", "num_heads", "predictor_heads")
    sizes = dataclasses.replace(filled.model, **dict.fromkeys(names))
    chosen = dataclasses.replace(filled.eval, encoder="")
    assert dataclasses.replace(filled, model=sizes, eval=chosen) == Config()
    assert resolve(base_config()) == filled


def test_unset_sizes_keep_their_type():
    config = base_config()
    config.model.depth = 4
    assert resolve(config).model.depth == 4
    with pytest.raises(TypeError):
        config.model.embed_dim = "wide"


def test_base_config_can_be_locked_against_new_keys():
    with pytest.raises(AttributeError):
        base_config().lock().model.dephts = 3


def test_two_base_configs_share_nothing():
    first, second = base_config(), base_config()
    first.train.steps = 7
    assert second.train.steps == Config().train.steps


# --- sizes


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ("tiny", (192, 12, 3)),
        ("small", (384, 12, 6)),
        ("base", (768, 12, 12)),
        ("large", (1024, 24, 16)),
    ],
)
def test_named_sizes_of_the_family(size, sizes):
    model = resolve({"model": {"size": size}}).model
    assert (model.embed_dim, model.depth, model.num_heads) == sizes


def test_given_sizes_stand_and_the_rest_is_of_the_named_size():
    model = resolve({"model": {"size": "small", "depth": 4}}).model
    assert (model.embed_dim, model.depth, model.num_heads) == (384, 4, 6)


# --- frozen form


def test_resolved_config_is_frozen():
    config = resolve({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.train.steps = 1


def test_lists_become_tuples_and_whole_numbers_reals():
    config = resolve({"data": {"bands": ["B02", "B03"]}, "ema": {"end": 1}})
    assert config.data.bands == ("B02", "B03")
    assert isinstance(config.ema.end, float)


def test_resolved_config_survives_json():
    config = resolve({"data": {"bands": ("B02",)}, "augment": {"crop_scale": (0.3, 1.0)}})
    assert resolve(json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_config_dict_and_dict_resolve_alike():
    settings = {"train": {"steps": 2000}, "data": {"bands": ("B02",)}}
    config = base_config()
    config.update(config_dict.ConfigDict(settings))
    assert resolve(config) == resolve(settings)


# --- refusals


@pytest.mark.parametrize(
    ("path", "known"),
    [("trian", "train"), ("data.sensr", "sensor"), ("vicreg.alpha", "weight")],
)
def test_unknown_setting_is_refused_with_those_there_are(path, known):
    with pytest.raises(ConfigError, match=rf"config\.{path} is no setting; .*'{known}'"):
        resolve(changed(path, 1))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("train.steps", 1.5, "int"),
        ("train.steps", "10", "int"),
        ("train.steps", True, "int"),
        ("train.steps", None, "int"),
        ("optim.peak_lr", "fast", "float"),
        ("optim.peak_lr", True, "float"),
        ("augment.flip", 1, "bool"),
        ("data.sensor", 3, "str"),
        ("data.bands", "B02", "tuple"),
        ("data.bands", [1], "str"),
        ("augment.crop_scale", [0.5], "tuple"),
        ("augment.crop_scale", [0.5, "1"], "float"),
        ("model.depth", 2.5, "int"),
        ("data", 3, "settings"),
    ],
)
def test_value_of_the_wrong_type_is_refused(path, value, expected):
    with pytest.raises(ConfigError, match=rf"config\.{path} = .*: expected .*{expected}"):
        resolve(changed(path, value))


@pytest.mark.parametrize("path", CHOICES)
def test_unknown_choice_is_refused_with_those_there_are(path):
    with pytest.raises(ConfigError, match=rf"config\.{path} = 'nonsense': choose one of \["):
        resolve(changed(path, "nonsense"))


@pytest.mark.parametrize("path", CHOICES)
def test_every_choice_is_accepted(path):
    for choice in CHOICES[path]:
        assert look_up(resolve(changed(path, choice)), path) == choice


@pytest.mark.parametrize(
    "path",
    [
        "train.steps",
        "train.batch_size",
        "train.log_every",
        "train.save_every",
        "eval.k",
        "eval.batch_size",
        "prepare.shard_records",
        "model.embed_dim",
        "model.depth",
        "model.num_heads",
        "model.predictor_dim",
        "model.predictor_depth",
    ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_what_must_be_at_least_one_is_refused_below(path, value):
    with pytest.raises(ConfigError, match=rf"config\.{path} = {value}"):
        resolve(changed(path, value))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"image_size": 100}}, r"image_size = 100 must be a multiple .*patch_size = 16"),
        ({"model": {"patch_size": 0}}, r"patch_size = 0"),
        ({"mask": {"target_ratio": 0.0}}, r"of 196 tokens gives 0 targets; at least one"),
        ({"mask": {"target_ratio": 1.0}}, r"of 196 tokens gives 196 targets"),
        ({"mask": {"target_ratio": 0.2}, "data": {"image_size": 32}}, r"of 4 tokens gives 0"),
        ({"augment": {"crop_scale": (0.0, 1.0)}}, r"crop_scale = \(0\.0, 1\.0\)"),
        ({"augment": {"crop_scale": (0.9, 0.3)}}, r"crop_scale = \(0\.9, 0\.3\)"),
        ({"augment": {"crop_scale": (0.5, 1.2)}}, r"crop_scale = \(0\.5, 1\.2\)"),
        ({"augment": {"crop_ratio": (1.5, 0.5)}}, r"crop_ratio = \(1\.5, 0\.5\)"),
        ({"augment": {"crop_ratio": (0.0, 1.0)}}, r"crop_ratio = \(0\.0, 1\.0\)"),
        ({"mask": {"context_ratio": 0.9}}, r"take 176 \+ 49 of 196 tokens; lower one, or set"),
        ({"mask": {"context_ratio": 0.0}}, r"context_ratio = 0\.0 of 196 tokens: at least one"),
        ({"mask": {"num_target_groups": 4}}, r"num_target_groups = 4 must divide the 49 targets"),
        (
            {"mask": {"strategy": "multimask", "multimask": ((0, 0.1),)}},
            r"multimask = \(\(0\.0, 0\.1\),\): give pairs",
        ),
        ({"mask": {"target_scale": (0.2, 0.1)}}, r"target_scale = \(0\.2, 0\.1\)"),
        ({"vicreg": {"on": ()}}, r"vicreg\.on = \(\): choose one or more of"),
        ({"vicreg": {"on": ("target",)}}, r"vicreg\.on = \('target',\): choose one or more"),
        ({"vicreg": {"expander": (0,)}}, r"every width must be at least 1"),
        (
            {"vicreg": {"expander": (8,), "pool": "mean_std", "on": ("context_tokens",)}},
            r"expander takes features of one width",
        ),
        ({"eval": {"encoder": "predictor"}}, r"encoder = 'predictor': choose one of \['context',"),
        ({"method": "mae", "mae": {"mask_ratio": 1.0}}, r"hides 196 of 196 tokens"),
        ({"method": "mae", "mae": {"decoder_heads": 7}}, r"decoder_dim = 512 must be .* = 7"),
        ({"health": {"images": 2}}, r"health\.images = 2: at least 4"),
        ({"train": {"batch_size": 1}}, r"batch_size = 1: .*at least 2"),
        ({"optim": {"warmup_steps": 20000}}, r"warmup_steps = 20000 must lie in 0 .* = 10000"),
        ({"optim": {"warmup_steps": -1}}, r"warmup_steps = -1"),
        ({"model": {"num_heads": 5}}, r"embed_dim = 768 must be a multiple of 4 and of .* = 5"),
        ({"model": {"predictor_dim": 100}}, r"predictor_dim = 100 must be .*predictor_heads = 12"),
        ({"model": {"embed_dim": 6, "num_heads": 2}}, r"embed_dim = 6 must be a multiple of 4"),
    ],
)
def test_settings_that_contradict_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        resolve(settings)


def test_one_image_a_batch_is_enough_without_regularisation():
    config = resolve({"train": {"batch_size": 1}, "method": "mae"})
    assert config.train.batch_size == 1


def test_encoder_of_another_method_gives_way_to_the_methods_first():
    assert resolve({"method": "mae", "eval": {"encoder": "context"}}).eval.encoder == "encoder"
    assert resolve({"eval": {"encoder": "context"}}).eval.encoder == "context"


CONFIGS = sorted((pathlib.Path(__file__).parents[1] / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_takes_every_preset_and_method(path):
    config = runpy.run_path(str(path))["get_config"]
    for preset in PRESETS:
        resolved = resolve(config(preset))
        assert resolved.method == ("mae" if preset == "mae" else "rejepa")
    with config().unlocked() as changed:
        changed.method = "mae"
    assert resolve(changed).eval.encoder == "encoder"


# --- lengths


@pytest.mark.parametrize(
    ("epochs", "images", "batch_size", "steps"),
    [
        (1, 128, 128, 1),
        (1, 129, 128, 2),
        (10, 1000, 128, 79),  # 78.125
        (0.5, 100, 10, 5),
        (15, 7416, 128, 870),  # 869.06: BEN-14K's training half
    ],
)
def test_epochs_in_steps_by_hand(epochs, images, batch_size, steps):
    assert epochs_to_steps(epochs, images, batch_size) == steps


def test_queries_and_gallery_from_one_split_are_refused():
    with pytest.raises(ConfigError, match="every query would find itself"):
        resolve({"eval": {"query_split": "test", "gallery_split": "test"}})


def test_training_on_the_queries_is_refused():
    with pytest.raises(ConfigError, match="queries would have been seen in training"):
        resolve({"data": {"train_split": "validation"}})
