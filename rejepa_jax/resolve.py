"""From a filled-in config to the frozen one: types, named sizes, and what holds between keys."""

import dataclasses
import types
import typing
from typing import Any

from ml_collections import config_dict

from rejepa_jax.config import Config, Model
from rejepa_jax.types import ConfigError

SIZES = {  # embed_dim, depth, num_heads: the ViT family (Dosovitskiy et al. 2021; Touvron 2021)
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}


def resolve(config: config_dict.ConfigDict | dict[str, Any]) -> Config:
    """Returns the frozen form of a filled-in config.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type, or two settings contradict.
    """
    values = config.to_dict() if isinstance(config, config_dict.ConfigDict) else config
    resolved = _build(Config, values, "config")
    validate(resolved)
    embed_dim, depth, num_heads = SIZES[resolved.model.size]
    filled = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}
    given = {key: getattr(resolved.model, key) for key in filled}
    filled |= {key: value for key, value in given.items() if value is not None}
    resolved = dataclasses.replace(resolved, model=dataclasses.replace(resolved.model, **filled))
    validate_model(resolved.model)
    return resolved


def _build(kind: type, values: dict[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{path}.{unknown[0]} is no setting; {path} has {sorted(hints)}")
    return kind(**{k: _convert(hints[k], v, f"{path}.{k}") for k, v in values.items()})


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{path} = {value!r}: expected a group of settings")
        return _build(typing.cast(type, hint), value, path)
    if isinstance(hint, types.UnionType):
        return None if value is None else _convert(typing.get_args(hint)[0], value, path)
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        if not isinstance(value, list | tuple) or (
            items[-1] is not ... and len(items) != len(value)
        ):
            raise ConfigError(f"{path} = {value!r}: expected {hint}")
        return tuple(_convert(items[0], item, path) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{path} = {value!r}: expected {hint.__name__}")
    return value


CHOICES = {
    "method": ("rejepa",),
    "data.layout": ("bigearthnet", "image_folder", "synthetic"),
    "data.selection": ("clean", "all", "ben14k"),
    "data.statistics": ("records", "published", "image"),
    "model.size": tuple(SIZES),
    "model.dtype": ("auto", "float32", "bfloat16"),
    "vicreg.invariance": ("none", "pred_target", "two_view"),
    "ema.schedule": ("linear", "constant"),
    "eval.encoder": ("target", "context"),
    "eval.pool": ("mean",),
    "index.kind": ("auto", "exact", "scann"),
}
POSITIVE = (
    *("prepare.shard_records", "train.steps", "train.batch_size", "train.log_every"),
    *("train.save_every", "eval.k", "eval.batch_size"),
)
SIZED = ("embed_dim", "depth", "num_heads", "predictor_dim", "predictor_depth")


def validate(config: Config) -> None:
    """Checks what must hold between settings, whatever the data.

    Raises:
        ConfigError: naming the keys to change.
    """
    for path, choices in CHOICES.items():
        value = _look_up(config, path)
        _require(value in choices, f"config.{path} = {value!r}: choose one of {list(choices)}")
    size, patch = config.data.image_size, config.model.patch_size
    _require(
        patch > 0 and size % patch == 0,
        f"config.data.image_size = {size} must be a multiple of config.model.patch_size = {patch}",
    )
    tokens = (size // patch) ** 2
    targets = int(config.mask.target_ratio * tokens)
    _require(
        0 < targets < tokens,
        f"config.mask.target_ratio = {config.mask.target_ratio} of {tokens} tokens gives {targets} "
        "targets; at least one target and one context token are needed",
    )
    low, high = config.augment.crop_scale
    _require(
        0 < low <= high <= 1, f"config.augment.crop_scale = {(low, high)}: 0 < low <= high <= 1"
    )
    low, high = config.augment.crop_ratio
    _require(0 < low <= high, f"config.augment.crop_ratio = {(low, high)}: 0 < low <= high")
    for path in POSITIVE:
        value = _look_up(config, path)
        _require(value > 0, f"config.{path} = {value}: must be at least 1")
    _require(
        config.eval.query_split != config.eval.gallery_split,
        f"config.eval.query_split and config.eval.gallery_split are both "
        f"{config.eval.query_split!r}: every query would find itself; choose two splits",
    )
    _require(
        config.train.batch_size > 1 or config.vicreg.weight == 0,
        "config.train.batch_size = 1: the variance terms need at least 2 (or vicreg.weight = 0)",
    )
    _require(
        0 <= config.optim.warmup_steps <= config.train.steps,
        f"config.optim.warmup_steps = {config.optim.warmup_steps} must lie in 0 .. "
        f"config.train.steps = {config.train.steps}",
    )


def validate_model(model: Model) -> None:
    """Checks that widths divide into heads and into the four parts of a sine-cosine position."""
    for name in SIZED:
        value = getattr(model, name)
        _require(value > 0, f"config.model.{name} = {value}: must be at least 1")
    for name in ("embed_dim", "predictor_dim"):
        width, heads = getattr(model, name), model.num_heads
        _require(
            width % heads == 0 and width % 4 == 0,
            f"config.model.{name} = {width} must be a multiple of 4 and of num_heads = {heads}",
        )


def _look_up(config: Config, path: str) -> Any:
    group, _, key = path.rpartition(".")
    return getattr(getattr(config, group) if group else config, key)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
