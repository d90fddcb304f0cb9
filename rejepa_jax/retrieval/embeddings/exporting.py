"""Every record into embedding files, by one process or many; goes on after what is finished."""

import functools
import pathlib
from collections.abc import Iterator

import jax
import numpy as np
from absl import logging

from rejepa_jax import artifacts, processes
from rejepa_jax.config import Export
from rejepa_jax.console import Progress
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.retrieval.embeddings import parts, schema, stac, stored, thumbnails, writing
from rejepa_jax.retrieval.embeddings.footer import footer
from rejepa_jax.retrieval.embeddings.making import make_part
from rejepa_jax.retrieval.embeddings.processes import Advance, share_out
from rejepa_jax.retrieval.encoder import Bundle, Embedder
from rejepa_jax.storage import fetching, keeping
from rejepa_jax.types import ConfigError, DataError

Path = pathlib.Path


DEFAULT = Export()


def write_embeddings(
    embedder: Embedder,
    records: RecordSet,
    directory: Path,
    batch_size: int,
    export: Export = DEFAULT,
) -> artifacts.Built:
    """Embeds every record of every split, in row order; a part that is whole is not made again.

    Every process of the run makes its share of the parts; the main one completes the export.

    Raises:
      ConfigError: an unknown dtype; or several processes where one feeds an accelerator.
      DataError: a process was ended from outside; what is finished stays.
    """
    stored.check_dtype(export.dtype)
    total, here = len(records.records), export.processes
    if here > 1 and jax.default_backend() != "cpu":
        raise ConfigError(
            f"config.export.processes = {here} on {jax.default_backend()}, expected 1: one "
            "process feeds an accelerator; set it to 1"
        )
    if not processes.is_main():
        fetching.resume(directory, artifacts.BEGUN)  # of a run in a bucket: what it has of them
        directory.mkdir(parents=True, exist_ok=True)
    first, count = processes.index() * here, processes.count() * here
    advance: Advance = _ignore
    if processes.is_main():  # and shows how far its own shares are
        shares = [_share(total, export, index, count) for index in range(first, first + here)]
        mine = sum(len(rows) for share in shares for _, rows in share)
        advance = Progress(f"embed ({embedder.bundle.name})", mine, "images").advance
    whole = (records, directory, batch_size, export)
    if here > 1:
        share_out(functools.partial(_work, embedder.bundle, whole, (first, count)), here, advance)
    else:
        write_share(embedder, *whole, index=first, count=count, advance=advance)
    processes.wait_for_all("embedded")
    if processes.is_main():
        if processes.count() > 1:
            fetching.resume(directory, artifacts.BEGUN)  # and what the others have made
        for name in stac.write(directory):
            keeping.keep(directory / name)
    facts = {"rows": total, "fingerprint": embedder.bundle.fingerprint, "dtype": export.dtype}
    return artifacts.Built(facts)


def _ignore(count: int) -> None:
    del count


def write_share(
    embedder: Embedder,
    records: RecordSet,
    directory: Path,
    batch_size: int,
    export: Export = DEFAULT,
    *,
    index: int = 0,
    count: int = 1,
    advance: Advance = _ignore,
) -> None:
    """Writes the parts n of which n % count is `index`: one host's share, or one process's.

    All of them write into one directory, each with an index of its own; `write_embeddings` there
    afterwards finds the parts finished, and completes the export. `advance` is told how many more
    images are done.
    """
    about = footer(embedder.bundle, records, export.licence)
    total = len(records.records)
    count_parts = -(-total // export.part_rows)
    bands = embedder.bundle.record.bands
    for number, rows in _share(total, export, index, count):
        path = directory / schema.part_name(number, count_parts)
        pictures = directory / thumbnails.zip_name(number, count_parts)
        is_drawn = pictures.exists() or not export.thumbnails
        if path.exists() and is_drawn and _is_whole(path, len(rows), about, export):
            advance(len(rows))
            continue
        with thumbnails.drawing(pictures, bands, export.thumbnails) as draw:
            part = make_part(embedder, records, rows, batch_size, draw, advance)
        writing.write_part(path, part, about, export.dtype)
        for finished in (pictures, path) if export.thumbnails else (path,):
            keeping.keep(finished)


def _share(total: int, export: Export, index: int, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the parts of one share: their numbers and rows."""
    for number in range(index, -(-total // export.part_rows), count):
        start = number * export.part_rows
        yield number, np.arange(start, min(start + export.part_rows, total))


def _work(
    bundle: Bundle,
    whole: tuple[RecordSet, Path, int, Export],
    shares: tuple[int, int],
    index: int,
    advance: Advance,
) -> None:
    """Writes a share in a process of its own: of all shares, the `index`th after the first one."""
    first, count = shares
    write_share(Embedder(bundle), *whole, index=first + index, count=count, advance=advance)


def _is_whole(path: Path, rows: int, about: dict, export: Export) -> bool:
    """Whether a part that is there is the one that would be made."""
    try:
        found, _ = parts.read_footer(path)
    except DataError as error:
        logging.warning("%s: making it again", error)
        return False
    expected = {"rows": rows, "fingerprint": about["fingerprint"], "dtype": export.dtype}
    if is_same := expected.items() <= found.items():
        logging.info("%s: finished before", path.name)
    else:
        logging.warning("%s: of another export: making it again", path)
    return is_same
