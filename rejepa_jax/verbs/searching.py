"""`rejepa search`, `add`, `delete` and `merge`: over what is searched of a finished run."""

import argparse
import datetime
import pathlib

from absl import logging

from rejepa_jax.console import say, table
from rejepa_jax.retrieval import answers
from rejepa_jax.retrieval.collection import updates
from rejepa_jax.retrieval.collection.filters import Filter
from rejepa_jax.retrieval.collection.images import embed_images, find_images
from rejepa_jax.retrieval.collection.opening import EMBEDDINGS
from rejepa_jax.retrieval.collection.parts import find_exports, read_parts
from rejepa_jax.retrieval.embeddings.parts import open_parts
from rejepa_jax.retrieval.queries import Query, read_vectors
from rejepa_jax.retrieval.query_images import MODES
from rejepa_jax.retrieval.search import Searcher, load_encoder
from rejepa_jax.storage import mirror
from rejepa_jax.types import ConfigError, DataError
from rejepa_jax.verbs.arguments import Verb, several

Path = pathlib.Path
CROP, POINT, BOX = "x0,y0,x1,y1", "LON,LAT", "W,S,E,N"


def search(arguments: argparse.Namespace) -> int:
    """Finds the run's images most like some examples."""
    if arguments.out:
        answers.check_file(arguments.out)
    records = mirror.open_any(arguments.records) if arguments.records else None
    searcher = Searcher(arguments.run, records)
    elsewhere = arguments.exclude_same_place
    answer = searcher.answer(
        _query(arguments), arguments.k, _filter(arguments), exclude_same_place=elsewhere
    )
    for note in answer.notes:
        logging.info("%s", note)
    if arguments.out:
        title = f"Search in {searcher.collection.name}"
        answers.write(answer, arguments.out, title, searcher.collection.thumbnail)
        say(f"{arguments.out}: {len(answer.hits)} hits")
    elif arguments.json:
        say(answers.as_json(answer.hits))
    else:
        say(table(answers.as_table(answer.hits)))
    return 0


def _query(arguments: argparse.Namespace) -> Query:
    vectors, fingerprint = read_vectors(arguments.vector) if arguments.vector else ((), "")
    return Query(
        positive=tuple(arguments.id),
        negative=tuple(arguments.negative),
        images=tuple(arguments.image),
        vectors=vectors,
        crop=arguments.crop,
        point=arguments.point,
        mode=arguments.mode,
        fingerprint=fingerprint,
    )


def _filter(arguments: argparse.Namespace) -> Filter:
    return Filter(
        bbox=arguments.bbox,
        start=arguments.start,
        end=arguments.end,
        sensors=tuple(arguments.sensor),
        labels=tuple(arguments.label),
        collections=tuple(arguments.collection),
        splits=tuple(arguments.split),
    )


def add(arguments: argparse.Namespace) -> int:
    """Adds images, or another export's, to what is searched of a run."""
    if bool(arguments.images) == bool(arguments.embeddings):
        raise ConfigError("got images and --embeddings, or neither; give one of them")
    if arguments.embeddings:
        exports = find_exports(arguments.embeddings)
        footer, ids = exports.footer, exports.read_ids().to_pylist()
        parts = read_parts(exports.paths, exports.live)
    else:
        names = ("collection", "datetime")
        facts = {name: getattr(arguments, name) for name in names if getattr(arguments, name)}
        bundle, found = load_encoder(arguments.run), find_images(arguments.images)
        footer = open_parts(arguments.run / EMBEDDINGS).footer
        footer |= {"fingerprint": bundle.fingerprint}
        ids = [image.id for image in found]
        parts = embed_images(bundle, found, arguments.label, facts)
    return _tell(arguments.run, updates.add(arguments.run, parts, footer, arguments.replace, ids))


def delete(arguments: argparse.Namespace) -> int:
    """Deletes images from what is searched of a run; their files stay."""
    ids = list(arguments.id)
    if arguments.ids:
        ids += _lines(arguments.ids)
    if not ids:
        raise ConfigError("got no id, expected --id ID or --ids FILE with one a line; give some")
    return _tell(arguments.run, updates.delete(arguments.run, ids))


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: got bytes that are no UTF-8, expected an id a line") from error


def merge(arguments: argparse.Namespace) -> int:
    """Builds a new index of all that was added to a run and not deleted."""
    return _tell(arguments.run, updates.merge(arguments.run))


def _tell(run: Path, version: updates.Version | None) -> int:
    if version is None:
        say(f"{run}: nothing was added or deleted since its index was built; nothing changed")
        return 0
    say(f"{run}: version {version.version}; a server that is running takes it up by itself")
    return 0


def add_verbs(verb: Verb) -> None:
    """Adds these verbs to the command line."""
    _add_search(verb("search", search))
    adding = verb("add", add)
    adding.add_argument("run", help="run directory")
    adding.add_argument("images", nargs="*", type=Path, help="image files, or folders of them")
    adding.add_argument("--embeddings", type=Path, help="another export, or a run that has one")
    adding.add_argument("--replace", action="store_true", help="images with these ids give way")
    adding.add_argument("--label", action="append", default=[], help="of all these images")
    adding.add_argument("--collection", default="", help="name of what they belong to")
    adding.add_argument("--datetime", type=_time, help="of acquisition, ISO 8601")
    deleting = verb("delete", delete)
    deleting.add_argument("run", help="run directory")
    deleting.add_argument("--id", action="append", default=[], help="may be given several times")
    deleting.add_argument("--ids", type=Path, metavar="FILE", help="with an id a line")
    verb("merge", merge).add_argument("run", help="run directory")


def _add_search(parser: argparse.ArgumentParser) -> None:
    def repeatable(name: str, what: str, dest: str | None = None) -> None:
        text = f"{what}; may be given several times"
        parser.add_argument(name, action="append", default=[], dest=dest, help=text)

    add = parser.add_argument
    add("run", help="run directory, or its URL in a bucket")
    add("image", nargs="*", type=Path, help="image file or BigEarthNet patch folder")
    repeatable("--id", "look for what is like the image of this id")
    repeatable("--not", "and unlike the image of this id", "negative")
    add("--vector", type=Path, metavar="FILE", help="look for what is like the vectors of a .npy")
    add(
        "--crop",
        type=several(int, CROP),
        metavar=CROP,
        help="part of the image or id, in pixels",
    )
    add(
        "--point",
        type=several(float, POINT),
        metavar=POINT,
        help="the nearest image; --point=-8.6,41.1",
    )
    add("--mode", choices=MODES, default="resize", help="of larger images (default resize)")
    add("-k", type=int, default=10, help="how many hits (default 10)")
    add(
        "--bbox",
        type=several(float, BOX),
        metavar=BOX,
        help="only there, in degrees; --bbox=-9,38,..",
    )
    add("--from", dest="start", default="", metavar="DATE", help="only from this day or time on")
    add("--to", dest="end", default="", metavar="DATE", help="only until the end of this day")
    for name in ("sensor", "label", "split", "collection"):
        repeatable(f"--{name}", "only with this one, or another one given")
    add("--exclude_same_place", action="store_true", help="not from the places of the ids")
    add("--records", help="where the records are, if not in the run; for a crop of an id")
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--out", type=Path, metavar="FILE", help="write .geojson, .parquet, .csv, .html or .json")


def _time(text: str) -> str:
    try:
        return datetime.datetime.fromisoformat(text).isoformat()
    except ValueError as error:
        message = f"got {text!r}, expected ISO 8601 such as 2018-05-21T10:00:00Z"
        raise argparse.ArgumentTypeError(message) from error
