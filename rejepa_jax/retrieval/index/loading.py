"""From a folder to an index that answers."""

from pathlib import Path

from rejepa_jax.retrieval.index.interface import Index
from rejepa_jax.retrieval.index.kinds import KINDS, require
from rejepa_jax.retrieval.index.stored import INFO, open_array, read_info
from rejepa_jax.types import DataError


def load(directory: Path) -> Index:
    """Opens an index folder; every file is read once to see that it is the one that was written.

    Raises:
      FileNotFoundError: no `index.json`.
      ConfigError: the index needs a package that is not installed.
      DataError: files that are not those that `index.json`, or the manifest, tells of.
    """
    info = read_info(directory)
    if info["kind"] not in KINDS:
        raise DataError(
            f"{directory / INFO}: got kind {info['kind']}, expected one of {sorted(KINDS)}; "
            "index again"
        )
    require(info["kind"])
    kind = KINDS[info["kind"]]
    stored = open_array(directory / kind.vectors, (info["rows"], info["dim"]))
    nearest = kind.open(directory, info["recipe"], stored)
    facts = (info[name] for name in ("kind", "rows", "dim", "fingerprint"))
    return Index(*facts, info=info, nearest=nearest, stored=stored)
