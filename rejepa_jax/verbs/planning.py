"""The verb `rejepa plan`: what a config would need and cost on devices that are not there."""

import argparse
import json

from absl import flags

from rejepa_jax.console import say
from rejepa_jax.main import parse_flags
from rejepa_jax.planning.in_words import to_text
from rejepa_jax.planning.plan import make_plan
from rejepa_jax.planning.topologies import find_topology
from rejepa_jax.resolve import resolve
from rejepa_jax.types import ConfigError
from rejepa_jax.verbs.arguments import Verb


def plan(arguments: argparse.Namespace) -> int:
    """Compiles a config's training step for a topology and says what it needs (docs/scaling.md)."""
    if arguments.images_per_chip is not None and arguments.images_per_chip < 1:
        raise ConfigError(f"--images_per_chip {arguments.images_per_chip}: give at least 1")
    parse_flags(["rejepa", f"--config={arguments.config}", *arguments.settings])
    config, topology = resolve(flags.FLAGS.config), find_topology(arguments.topology)
    made = make_plan(topology, config, arguments.images_per_chip, is_largest=arguments.find_largest)
    say(json.dumps(made.to_json(), indent=1) if arguments.json else to_text(made))
    return 0


def add_verbs(verb: Verb) -> None:
    """Adds `plan` to the command line."""
    planning = verb("plan", plan)
    add = planning.add_argument
    add("config", help="config file, as configs/NAME.py[:PRESET]")
    add("--topology", required=True, help="v5e:2x4, v5p:4x4x4, v6e:4x4, ...; cpu:8; gpu")
    add(
        "--images_per_chip", type=int, metavar="N", help="(default: the config's batch, shared out)"
    )
    add("--find_largest", action="store_true", help="try batch sizes; each is a compilation")
    add("--json", action="store_true", help="print JSON instead of tables")
    add(
        "settings", nargs="*", metavar="--config.key=value", help="changes to the config's settings"
    )
