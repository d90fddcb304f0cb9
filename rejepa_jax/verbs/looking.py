"""`rejepa compare`, `duplicates`, `verify`, `inspect`, `doctor`: what there is, and is it whole."""

import argparse
import json
import pathlib

from absl import flags

from rejepa_jax import artifacts, inspection
from rejepa_jax.console import say
from rejepa_jax.data import near_duplicates
from rejepa_jax.data.pipeline import open_records
from rejepa_jax.main import parse_flags
from rejepa_jax.report.compare import write_comparison
from rejepa_jax.resolve import resolve
from rejepa_jax.storage import mirror
from rejepa_jax.types import ConfigError
from rejepa_jax.verbs.arguments import Verb


def compare(arguments: argparse.Namespace) -> int:
    """Writes one page that shows runs evaluated alike side by side."""
    say(f"look at {write_comparison(arguments.runs, arguments.out, arguments.records)}")
    return 0


def duplicates(arguments: argparse.Namespace) -> int:
    """Lists images of the records that are, or look, the same in two splits."""
    run = arguments.path / "records"
    records = open_records(run if (run / artifacts.MANIFEST).exists() else arguments.path)
    known = list(records.schema.sensors)
    sensors = [arguments.sensor] if arguments.sensor else known
    if unknown := [name for name in sensors if name not in known]:
        raise ConfigError(f"--sensor {unknown[0]}: the records hold {', '.join(known)}; choose one")
    reports = [near_duplicates.find_near_duplicates(records, sensor) for sensor in sensors]
    if arguments.json:
        say(json.dumps([report.to_json() for report in reports], indent=1))
    else:
        say("\n\n".join(map(near_duplicates.to_text, reports)))
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Prints each artefact's state; 3 if any is damaged."""
    found = inspection.artefacts(arguments.path)
    faults = 0
    for path in found:
        wrong = artifacts.verify(path)
        faults += len(wrong)
        say(f"{mirror.address(path)}: {'whole' if not wrong else 'DAMAGED'}")
        for fault in wrong:
            say(f"  {fault}")
    return 3 if faults else 0


def inspect(arguments: argparse.Namespace) -> int:
    """Prints what a config would build, or what a run, records, a shard or an archive holds."""
    if pathlib.Path(str(arguments.path).partition(":")[0]).suffix in (".py", ".json"):
        parse_flags(["rejepa", f"--config={arguments.path}", *arguments.settings])
        say(inspection.describe_config(resolve(flags.FLAGS.config)))
    else:
        say(inspection.describe(arguments.path))
    return 0


def doctor(_: argparse.Namespace) -> int:
    """Prints versions and devices."""
    say(inspection.describe_machine())
    return 0


def add_verbs(verb: Verb) -> None:
    """Adds these verbs to the command line."""
    comparing = verb("compare", compare)
    comparing.add_argument("runs", nargs="+", metavar="RUN", help="directories or URLs")
    comparing.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("compare.html"),
        help="page to write (default compare.html)",
    )
    comparing.add_argument("--records", help="where the records are, if no run holds them")
    twins = verb("duplicates", duplicates)
    twins.add_argument("path", help="run, or records: directory or URL")
    twins.add_argument("--sensor", help="compare by this one (default: each of the records')")
    twins.add_argument("--json", action="store_true", help="print JSON instead of tables")
    verb("verify", verify).add_argument("path", help="run or artefact: directory or URL")
    inspecting = verb("inspect", inspect)
    inspecting.add_argument("path", help="config file, run, artefact, shard or archive")
    inspecting.add_argument(
        "settings", nargs="*", metavar="--config.key=value", help="changes to a config's settings"
    )
    verb("doctor", doctor)
