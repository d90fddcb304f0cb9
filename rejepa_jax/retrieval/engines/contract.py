"""What the engines have in common: their options, what they report, and what they refuse."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from rejepa_jax.retrieval.engines.source import Export
from rejepa_jax.types import ConfigError, DataError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")  # what all engines take, with room for a suffix


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What was loaded; `where` names it without secrets, `note` says what to know or do next."""

    rows: int
    where: str
    note: str


@dataclasses.dataclass(frozen=True)
class Options:
    """The name of the table or collection, whether one there may be replaced, engine settings."""

    name: str = "rejepa"
    replace: bool = False
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"got name {self.name!r}, expected at most 40 letters, digits and _, no digit first"
            )

    def choose(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Returns an engine's settings, each of the type of its default.

        Raises:
          ConfigError: a setting that the engine does not have, or no number for a number.
        """
        if unknown := self.settings.keys() - defaults.keys():
            known = ", ".join(defaults) or "none"
            raise ConfigError(f"got --option {sorted(unknown)[0]}, expected one of: {known}")
        chosen = dict(defaults)
        for name, text in self.settings.items():
            kind = type(defaults[name])
            if kind is int and not re.fullmatch("[1-9][0-9]{0,8}", text):
                raise ConfigError(f"got --option {name}={text}, expected a positive whole number")
            chosen[name] = kind(text)
        return chosen


def refuse(where: str, mark: Mapping[str, Any] | None, export: Export, options: Options) -> None:
    """Raises unless nothing is there (`mark` is None) or what is there may be replaced.

    Only what carries our mark, with the same fingerprint, is ever replaced: whoever asks a table
    with vectors of its encoder must not silently get neighbours of another.
    """
    if mark is None:
        return
    if not mark:
        raise ConfigError(
            f"{where}: got something there that `rejepa load` has not made, expected nothing, or "
            "its own; choose another --name"
        )
    if mark["fingerprint"] != export.fingerprint:
        raise ConfigError(
            f"{where}: got vectors of encoder {mark['fingerprint'][:12]} there, expected "
            f"{export.fingerprint[:12]}: vectors of two encoders cannot be compared; choose "
            "another --name, or remove the old one yourself"
        )
    if not options.replace:
        raise ConfigError(
            f"{where}: got {mark['rows']} rows of the same encoder there already, expected none; "
            "--replace puts the new ones in their place, --name loads beside them"
        )


def without_secrets(target: str) -> str:
    """The target as it may be shown: no user, password or query string of a URL."""
    scheme, mark, rest = target.partition("://")
    if not mark:
        return target
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def check_count(where: str, got: int, export: Export) -> None:
    """Refuses to publish what an engine holds in another number than it was given."""
    if got != export.rows:
        raise DataError(f"{where}: got {got} rows there, expected {export.rows}; load again")
