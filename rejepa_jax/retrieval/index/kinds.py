"""The kinds of index there are, and which of them suits a gallery and a machine."""

import importlib.util
import os

import jax

from rejepa_jax.retrieval.index.codes_kind import BITS, INT8
from rejepa_jax.retrieval.index.device_kind import DEVICE
from rejepa_jax.retrieval.index.exact_kind import EXACT
from rejepa_jax.retrieval.index.faiss_kind import FAISS
from rejepa_jax.retrieval.index.hnsw_kind import HNSW
from rejepa_jax.retrieval.index.interface import Recipe
from rejepa_jax.retrieval.index.scann_kind import SCANN
from rejepa_jax.types import ConfigError

KINDS = {
    "exact": EXACT,
    "scann": SCANN,
    "device": DEVICE,
    "int8": INT8,
    "bits": BITS,
    "faiss": FAISS,
    "hnsw": HNSW,
}
AUTO = "auto"
EXACT_ROWS = 20_000  # on a CPU: few milliseconds a query, and nothing is lost
MEMORY_SHARE = 0.5  # of the machine's memory that an index may take


def choose(kind: str, rows: int, dim: int) -> tuple[str, Recipe, str]:
    """Returns a kind, the choices that differ from its recipe, and why.

    Raises:
      ConfigError: an unknown kind, or one whose package is not installed.
    """
    if kind == AUTO:
        on_accelerator = jax.default_backend() != "cpu"
        return _for_accelerator(rows, dim) if on_accelerator else _for_cpu(rows, dim)
    if kind not in KINDS:
        raise ConfigError(f"got index kind {kind!r}, expected auto or one of {sorted(KINDS)}")
    require(kind)
    return kind, {}, "asked for"


def require(kind: str) -> None:
    """Raises a ConfigError where the package behind a kind is not installed."""
    if not is_here(kind):
        package = KINDS[kind].packages[0]
        raise ConfigError(
            f"got index kind {kind!r} without {KINDS[kind].module}; pip install {package}, or use "
            "'exact'"
        )


def is_here(kind: str) -> bool:
    """Whether the package behind a kind is installed."""
    return importlib.util.find_spec(KINDS[kind].module) is not None


def _for_accelerator(rows: int, dim: int) -> tuple[str, Recipe, str]:
    memory = [device.memory_stats() for device in jax.local_devices()]
    room = MEMORY_SHARE * min(m["bytes_limit"] if m else 0 for m in memory)
    count, needed = jax.local_device_count(), rows * dim * 4
    if needed <= room and count == 1:
        return "exact", {}, "the vectors fit on the accelerator"
    if needed <= room * count:
        return "device", {}, f"the vectors fit on {count} accelerators together"
    if needed / 2 <= room * count:
        choices = {"dtype": "bfloat16"}
        return "device", choices, f"the vectors fit on {count} accelerators as bfloat16 only"
    kind, choices, reason = _for_cpu(rows, dim)
    return kind, choices, f"the vectors do not fit on {count} accelerators; of the CPU: {reason}"


def _for_cpu(rows: int, dim: int) -> tuple[str, Recipe, str]:
    if rows <= EXACT_ROWS:
        return "exact", {}, f"no more than {EXACT_ROWS} rows are compared one by one in no time"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    needed = rows * dim * 4
    if 1.3 * needed <= MEMORY_SHARE * memory:  # vectors, hashed scores, room to build
        for kind in ("scann", "faiss"):
            if is_here(kind):
                return kind, {}, f"more than {EXACT_ROWS} rows, which fit into memory"
        return "exact", {}, "neither ScaNN nor FAISS is installed"
    if needed / 4 <= MEMORY_SHARE * memory:
        return "int8", {}, "the vectors do not fit into memory, a quarter of them does"
    return "bits", {}, "not even a quarter of the vectors fits into memory"
