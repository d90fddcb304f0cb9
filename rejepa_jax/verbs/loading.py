"""The verb `rejepa load`: a run's embeddings into another engine."""

import argparse

from rejepa_jax.console import say
from rejepa_jax.retrieval.engines import loading
from rejepa_jax.retrieval.engines.contract import Options
from rejepa_jax.types import ConfigError
from rejepa_jax.verbs.arguments import Verb


def load(arguments: argparse.Namespace) -> int:
    """Loads a run's embeddings into another engine, whole or not at all (docs/engines.md)."""
    settings = dict(_setting(text) for text in arguments.option)
    options = Options(arguments.name, arguments.replace, settings)
    loaded = loading.load(arguments.run, arguments.engine, arguments.target, options)
    say(f"{loaded.where}: {loaded.rows} rows\n{loaded.note}")
    return 0


def add_verbs(verb: Verb) -> None:
    """Adds `load` to the command line."""
    loader = verb("load", load)
    add = loader.add_argument
    add("run", help="run, or an export: directory or URL")
    add("engine", choices=tuple(loading.ENGINES), help="what to load it into")
    add("target", help="connection string, URL, host:port, file or folder of the engine")
    add("--name", default="rejepa", help="of the table or collection (default rejepa)")
    add("--replace", action="store_true", help="put it in the place of an earlier load")
    add(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the engine; may be given again",
    )


def _setting(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not (key and mark):
        raise ConfigError(f"got --option {text!r}, expected key=value")
    return key, value
