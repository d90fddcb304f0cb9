"""One way in for all engines: `load` an export under a name, replaced whole or not at all."""

from collections.abc import Callable
from pathlib import Path

from rejepa_jax.retrieval.engines import faiss, lancedb, milvus, pgvector, qdrant, vertex
from rejepa_jax.retrieval.engines.contract import Loaded, Options
from rejepa_jax.types import ConfigError

ENGINES: dict[str, Callable[[Path, str, Options], Loaded]] = {
    "faiss": faiss.load,
    "lancedb": lancedb.load,
    "milvus": milvus.load,
    "pgvector": pgvector.load,
    "qdrant": qdrant.load,
    "vertex": vertex.load,
}


def load(source: Path, engine: str, target: str, options: Options) -> Loaded:
    """Loads what is current of a run, or an export by itself, into an engine.

    Raises:
      ConfigError: an engine, target, name or option that cannot be used, or a missing package.
      DataError: the export is damaged, or holds what the engine does not take.
      FileNotFoundError: there is no export.
    """
    if engine not in ENGINES:
        raise ConfigError(f"got engine {engine!r}, expected one of {', '.join(ENGINES)}")
    try:
        return ENGINES[engine](source, target, options)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{engine}: got no package {error.name}; pip install 'rejepa_jax[engines]'"
        ) from error
