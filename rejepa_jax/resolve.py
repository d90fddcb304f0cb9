"""From a filled-in config to the frozen one: types, and what a setting left open stands for."""

import dataclasses
import types
import typing
from typing import Any

from ml_collections import config_dict

from rejepa_jax.config import Config
from rejepa_jax.rules import ENCODERS, SIZES, check_choices, check_rules
from rejepa_jax.types import ConfigError


def resolve(config: config_dict.ConfigDict | dict[str, Any]) -> Config:
    """Returns the frozen form of a filled-in config.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type, or two settings contradict.
    """
    values = config.to_dict() if isinstance(config, config_dict.ConfigDict) else config
    resolved = _build(Config, values, "config")
    check_choices(resolved)
    embed_dim, depth, num_heads = SIZES[resolved.model.size]
    filled = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}
    given = {key: getattr(resolved.model, key) for key in filled}
    filled |= {key: value for key, value in given.items() if value is not None}
    filled["predictor_heads"] = resolved.model.predictor_heads or filled["num_heads"]
    names, encoder = ENCODERS[resolved.method], resolved.eval.encoder
    encoder = encoder if encoder in names else names[0]
    resolved = dataclasses.replace(
        resolved,
        model=dataclasses.replace(resolved.model, **filled),
        eval=dataclasses.replace(resolved.eval, encoder=encoder),
    )
    check_rules(resolved)
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
