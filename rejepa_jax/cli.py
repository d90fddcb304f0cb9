"""The `rejepa` command over finished runs and files; it needs no config.

rejepa search RUN IMAGE [-k 10] [--json]   the run's images most like this one
rejepa import FILE OUT                     another ViT's weights (I-JEPA, MAE, timm) as a bundle
rejepa export RUN OUT                      an encoder for use elsewhere: StableHLO, timm, a card
rejepa compare RUN RUN [--out FILE]        runs evaluated alike, side by side on one page
rejepa duplicates PATH                     images that are, or look, the same in two splits
rejepa verify PATH                         re-read every byte of a run or of one artefact
rejepa inspect PATH                        what a config, a run, records, a shard or an archive is
rejepa doctor                              what this machine offers
"""

import argparse
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import flags, logging

from rejepa_jax import artifacts, inspection
from rejepa_jax.console import say, set_up_logging, table
from rejepa_jax.data import near_duplicates
from rejepa_jax.data.pipeline import open_records
from rejepa_jax.main import parse_flags
from rejepa_jax.report.compare import write_comparison
from rejepa_jax.resolve import resolve
from rejepa_jax.retrieval import search as searching
from rejepa_jax.retrieval.pooling import POOLS
from rejepa_jax.retrieval.weights.exporting import export_weights
from rejepa_jax.retrieval.weights.importing import Import, import_weights
from rejepa_jax.storage import mirror
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.types import ConfigError, DataError


def search(arguments: argparse.Namespace) -> int:
    """Prints the hits of one image."""
    hits = searching.Searcher(arguments.run).search(arguments.image, arguments.k)
    say(searching.to_json(hits) if arguments.json else table(searching.to_table(hits)))
    return 0


def bring_in(arguments: argparse.Namespace) -> int:
    """Makes an encoder bundle from a file of another ViT's weights, running no code in it."""
    wanted = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Import)}
    for note in import_weights(arguments.file, arguments.out, Import(**wanted)):
        say(note)
    say(f"{arguments.out}: a bundle; train from it with --config.model.weights={arguments.out}")
    return 0


def hand_out(arguments: argparse.Namespace) -> int:
    """Writes an encoder for use elsewhere: StableHLO module, safetensors, model card."""
    files = export_weights(arguments.source, arguments.out, arguments.encoder)
    say(f"{arguments.out}: {', '.join(files)}; README.md says how to use them")
    return 0


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


def parser() -> argparse.ArgumentParser:
    """Builds the command line."""
    root = argparse.ArgumentParser("rejepa", description=__doc__.splitlines()[0])
    verbs = root.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, act: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=act.__doc__, description=act.__doc__)
        made.set_defaults(act=act)
        return made

    searching = verb("search", search)
    searching.add_argument("run", help="run directory, or its URL in a bucket")
    searching.add_argument(
        "image", type=pathlib.Path, help="image file or BigEarthNet patch folder"
    )
    searching.add_argument("-k", type=int, default=10, help="how many hits (default 10)")
    searching.add_argument("--json", action="store_true", help="print JSON instead of a table")
    _add_import(verb("import", bring_in))
    exporting = verb("export", hand_out)
    exporting.add_argument("source", help="run directory or its URL, or a bundle")
    exporting.add_argument("out", type=pathlib.Path, help="directory to make")
    exporting.add_argument("--encoder", help="of the run; default: the one that fills its index")
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
    return root


def _add_import(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=pathlib.Path, help=".safetensors, or a torch checkpoint (.pth, .pt, .pth.tar)")
    add("out", type=pathlib.Path, help="bundle directory to make")
    add("--encoder", help="of several in the file (default target_encoder)")
    add("--heads", type=int, help="attention heads (default: one for 64 features)")
    add("--file_bands", type=_names, default=(), help="that it knows: a,b,c (default for 3: rgb)")
    add("--sensor", default="rgb", help="whose images it shall take (default rgb)")
    add("--bands", type=_names, default=(), help="of the sensor: a,b,c (default all)")
    add("--image_size", type=int, help="px that the encoder sees (default: the file's)")
    add("--record_size", type=int, help="px of the images given to it (default: image_size)")
    add("--mean", type=_numbers, default=(), help="of the bands, in the images' unit: 1,2,3")
    add("--std", type=_numbers, default=(), help="default: ImageNet's for rgb, else published")
    add("--pool", choices=tuple(POOLS), default="mean", help="tokens to descriptor (default mean)")


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _open_places(arguments: argparse.Namespace) -> None:
    """Makes paths of the arguments that may be URLs."""
    for name in ("run", "source", "path", "records"):
        if where := getattr(arguments, name, None):
            setattr(arguments, name, mirror.open_any(where))
    if hasattr(arguments, "runs"):
        arguments.runs = [mirror.open_run(where) for where in arguments.runs]


def main(argv: Sequence[str]) -> int:
    """Runs one verb; returns the exit code: 0 done, 2 usage, 3 data, 75 a store is silent."""
    flags.FLAGS.mark_as_parsed()  # absl's logging waits for it
    set_up_logging()
    arguments, settings = parser().parse_known_args(argv)
    unknown = [text for text in settings if not text.startswith("--config.")]
    if unknown or (settings and arguments.act is not inspect):
        parser().error(f"unknown arguments: {' '.join(unknown or settings)}")
    arguments.settings = settings
    try:
        _open_places(arguments)
        return arguments.act(arguments)
    except ConfigError as error:
        logging.error("%s", error)
        return 2
    except StoreError as error:
        logging.error("%s", error)
        return 75
    except (DataError, FileNotFoundError) as error:
        logging.error("%s", error)
        return 3


def run() -> None:
    """Entry point of the `rejepa` script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
