"""Into the import format of Vertex AI Vector Search: a folder of JSON lines, here or in a bucket.

`TARGET/NAME/` holds nothing but what Vertex may read: at most 5,000 files, no folder but `delete/`.
It gets its name when all is written; `TARGET/NAME.json` beside it says whose vectors these are,
and `"complete": true` once they are all there.

Source: cloud.google.com/vertex-ai/docs/vector-search/setup/format-structure
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from rejepa_jax.retrieval.engines.contract import Loaded, Options, refuse, without_secrets
from rejepa_jax.retrieval.engines.source import Export, facts, open_export, read_mark
from rejepa_jax.storage import files
from rejepa_jax.storage.readers import is_remote, join
from rejepa_jax.types import ConfigError

SETTINGS = {"rows_a_file": 5000, "delete": ""}
MOST_FILES = 4900  # of 5,000
TOKENS = ("split", "sensor", "collection", "place")
NUMBERS = ("lon", "lat")


def load(source: Path, target: str, options: Options) -> Loaded:
    """Writes the folder NAME into a folder here or in a bucket (gs://...)."""
    settings = options.choose(SETTINGS)
    export = open_export(source)
    folder, state = join(target, options.name), join(target, f"{options.name}.json")
    shown = without_secrets(folder)
    refuse(shown, _mark(folder, state), export, options)
    deleted = _read_deleted(settings["delete"])
    partial = f"{folder}.partial"
    try:
        _clear(partial)
        rows = max(settings["rows_a_file"], -(-export.rows // MOST_FILES))
        for number, text in enumerate(_texts(export, rows, deleted)):
            _write(join(partial, f"part-{number:05d}.json"), text)
        if deleted:
            _write(join(partial, "delete", "ids.txt"), "".join(f"{name}\n" for name in deleted))
        _write(state, json.dumps(export.mark | {"complete": False}))
        _move(partial, folder)
        _write(state, json.dumps(export.mark | {"complete": True}))
    except OSError as error:
        raise ConfigError(f"{shown}: got {error}, expected a folder to write to") from error
    return Loaded(
        export.rows,
        shown,
        f"contentsDeltaUri of an index with {export.dim} dimensions and "
        "DOT_PRODUCT_DISTANCE, once it is in a bucket",
    )


def _mark(folder: str, state: str) -> dict[str, Any] | None:
    """The mark of what is there; None if nothing is, or what an ended load left while it moved."""
    if files.exists(state):
        mark = dict(read_mark(files.read_bytes(state)))
        return mark if mark.get("complete", True) else None
    is_there = bool(files.sizes(folder)) if is_remote(folder) else os.path.exists(folder)
    return {} if is_there else None


def _read_deleted(path: str) -> list[str]:
    """The ids to be removed from the next version of the index, one in each line of a file."""
    if not path:
        return []
    try:
        return [line for line in Path(path).read_text().split("\n") if line]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: got {error}, expected a text file of ids") from error


def _texts(export: Export, rows: int, deleted: list[str]) -> Iterator[str]:
    """Yields the content of each file: one JSON object a line."""
    gone, lines = set(deleted), []
    for batch in export.batches():
        for line, name in zip(_lines(batch), batch["id"].to_pylist(), strict=True):
            if name in gone:
                raise ConfigError(
                    f"got {name!r} to be deleted and to be loaded, expected one of both; take it "
                    "out of the list"
                )
            lines.append(line)
            if len(lines) == rows:
                yield "".join(lines)
                lines = []
    if lines:
        yield "".join(lines)


def _lines(batch: pa.RecordBatch) -> Iterator[str]:
    # Arrow writes the shortest text that is the same float32; Python would write twice as much.
    texts = batch["embedding"].flatten().cast(pa.string()).to_pylist()
    dim = batch["embedding"].type.list_size
    for i, fact in enumerate(facts(batch)):
        known = {
            "id": fact["id"],
            "restricts": _restricts(fact),
            "numeric_restricts": _numbers(fact),
        }
        vector = ", ".join(texts[i * dim : (i + 1) * dim])
        yield f'{json.dumps(known)[:-1]}, "embedding": [{vector}]}}\n'


def _restricts(fact: dict[str, Any]) -> list[dict[str, Any]]:
    tokens = {"label": fact["labels"]} | {name: [fact[name]] for name in TOKENS if fact[name]}
    return [{"namespace": name, "allow": allow} for name, allow in tokens.items() if allow]


def _numbers(fact: dict[str, Any]) -> list[dict[str, Any]]:
    time = fact["datetime"]
    numbers = [{"namespace": "time", "value_int": int(time.timestamp() // 1)}] if time else []
    known = [name for name in NUMBERS if fact[name] is not None]
    return numbers + [{"namespace": name, "value_double": fact[name]} for name in known]


def _write(where: str, text: str) -> None:
    if is_remote(where):
        files.write_bytes(where, text.encode())
        return
    path = Path(where)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _clear(folder: str) -> None:
    if is_remote(folder):
        files.remove(folder, files.sizes(folder))
    elif os.path.exists(folder):
        shutil.rmtree(folder)


def _move(partial: str, folder: str) -> None:
    """Gives the folder its name: one rename here, copies in a bucket, which knows no other way."""
    _clear(folder)
    if not is_remote(folder):
        os.replace(partial, folder)
        return
    files.each(
        lambda name: files.copy(join(partial, name), join(folder, name)), files.sizes(partial)
    )
    _clear(partial)
