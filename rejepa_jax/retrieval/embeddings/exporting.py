"""Every record into embedding files, by one process or many; goes on after what is finished."""

import functools
import pathlib

import jax
import numpy as np
from absl import logging

from rejepa_jax import artifacts
from rejepa_jax.config import Export
from rejepa_jax.console import Progress
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.retrieval.embeddings import parts, schema, stac, stored, thumbnails, writing
from rejepa_jax.retrieval.embeddings.footer import footer
from rejepa_jax.retrieval.embeddings.making import make_part
from rejepa_jax.retrieval.embeddings.processes import Advance, share_out
from rejepa_jax.retrieval.encoder import Bundle, Embedder
from rejepa_jax.storage import keeping
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

    Raises:
      ConfigError: an unknown dtype; or several processes where one feeds an accelerator.
      DataError: a process was ended from outside; what is finished stays.
    """
    stored.check_dtype(export.dtype)
    total, processes = len(records.records), export.processes
    progress = Progress(f"embed ({embedder.bundle.name})", total, "images")
    if processes > 1 and jax.default_backend() != "cpu":
        raise ConfigError(
            f"config.export.processes = {processes} on {jax.default_backend()}, expected 1: one "
            "process feeds an accelerator; set it to 1"
        )
    if processes > 1:
        work = functools.partial(_work, embedder.bundle, records, directory, batch_size, export)
        share_out(work, processes, progress.advance)
    else:
        write_share(embedder, records, directory, batch_size, export, advance=progress.advance)
    for name in stac.write(directory):
        keeping.keep(directory / name)
    facts = {"rows": total, "fingerprint": embedder.bundle.fingerprint, "dtype": export.dtype}
    return artifacts.Built(facts)


def write_share(
    embedder: Embedder,
    records: RecordSet,
    directory: Path,
    batch_size: int,
    export: Export = DEFAULT,
    *,
    index: int = 0,
    count: int = 1,
    advance: Advance = lambda _: None,
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
    for number in range(index, count_parts, count):
        start = number * export.part_rows
        rows = np.arange(start, min(start + export.part_rows, total))
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


def _work(
    bundle: Bundle,
    records: RecordSet,
    directory: Path,
    batch_size: int,
    export: Export,
    index: int,
    advance: Advance,
) -> None:
    """Writes a share in a process of its own."""
    embedder, count = Embedder(bundle), export.processes
    write_share(
        embedder, records, directory, batch_size, export, index=index, count=count, advance=advance
    )


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
