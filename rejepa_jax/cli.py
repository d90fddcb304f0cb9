"""The `rejepa` command over finished runs and files; it needs no config.

rejepa search RUN IMAGE [-k 10] [--json]   the run's images most like this one
rejepa verify PATH                         re-read every byte of a run or of one artefact
rejepa inspect PATH                        what a config, an artefact or a run is
rejepa doctor                              what this machine offers
"""

import argparse
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import flags, logging

from rejepa_jax import artifacts, inspection
from rejepa_jax.console import say, set_up_logging, table
from rejepa_jax.main import parse_flags
from rejepa_jax.resolve import resolve
from rejepa_jax.retrieval import search as searching
from rejepa_jax.types import ConfigError, DataError


def search(arguments: argparse.Namespace) -> int:
    """Prints the hits of one image."""
    hits = searching.Searcher(arguments.run).search(arguments.image, arguments.k)
    say(searching.to_json(hits) if arguments.json else table(searching.to_table(hits)))
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Prints each artefact's state; 3 if any is damaged."""
    found = inspection.artefacts(arguments.path)
    faults = 0
    for path in found:
        wrong = artifacts.verify(path)
        faults += len(wrong)
        say(f"{path}: {'whole' if not wrong else 'DAMAGED'}")
        for fault in wrong:
            say(f"  {fault}")
    return 3 if faults else 0


def inspect(arguments: argparse.Namespace) -> int:
    """Prints what a config would build, or what an artefact holds."""
    if arguments.path.is_file():
        parse_flags(["rejepa", f"--config={arguments.path}", *arguments.settings])
        say(inspection.describe_config(resolve(flags.FLAGS.config)))
    else:
        say(inspection.describe(arguments.path))
    return 0


def doctor(_: argparse.Namespace) -> int:
    """Prints versions and devices."""
    say(inspection.describe_machine())
    return 0


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    root = argparse.ArgumentParser("rejepa", description=__doc__.splitlines()[0])
    verbs = root.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=act.__doc__, description=act.__doc__)
        made.set_defaults(act=act)
        return made

    searching = verb("search", search)
    searching.add_argument("run", type=pathlib.Path, help="run directory")
    searching.add_argument(
        "image", type=pathlib.Path, help="image file or BigEarthNet patch folder"
    )
    searching.add_argument("-k", type=int, default=10, help="how many hits (default 10)")
    searching.add_argument("--json", action="store_true", help="print JSON instead of a table")
    verb("verify", verify).add_argument("path", type=pathlib.Path, help="run or artefact directory")
    inspecting = verb("inspect", inspect)
    inspecting.add_argument(
        "path", type=pathlib.Path, help="config file, run or artefact directory"
    )
    inspecting.add_argument(
        "settings", nargs="*", metavar="--config.key=value", help="changes to a config's settings"
    )
    verb("doctor", doctor)
    return root


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit code: 0 done, 2 usage, 3 data."""
    flags.FLAGS.mark_as_parsed()  # absl's logging waits for it
    set_up_logging()
    arguments, settings = parser().parse_known_args(argv)
    unknown = [text for text in settings if not text.startswith("--config.")]
    if unknown or (settings and arguments.act is not inspect):
        parser().error(f"unknown arguments: {' '.join(unknown or settings)}")
    arguments.settings = settings
    try:
        return arguments.act(arguments)
    except ConfigError as error:
        logging.error("%s", error)
        return 2
    except (DataError, FileNotFoundError) as error:
        logging.error("%s", error)
        return 3


def run() -> None:
    """Entry point of the `rejepa` script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
