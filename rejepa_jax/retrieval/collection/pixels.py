"""The pixels of an image that is searched, read from the records that it was embedded from."""

import threading
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from rejepa_jax import artifacts
from rejepa_jax.data.pipeline import RecordSet, open_records
from rejepa_jax.retrieval.collection.catalogue import Catalogue
from rejepa_jax.retrieval.collection.collection import Collection
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.encoder import Bundle
from rejepa_jax.types import ConfigError, DataError


class Pixels:
    """The records of a run, opened when they are first asked for."""

    def __init__(self, run: Path, records: Path):
        self._run, self._directory = run, records
        self._lock = threading.Lock()
        self._records: tuple[str, RecordSet, Catalogue] | None = None

    def read(
        self, name: str, collection: Collection, bundle: Bundle
    ) -> Shaped[np.ndarray, "_ _ _"]:
        """Returns the pixels of an image of the bundle's sensor by its id.

        Raises:
          ConfigError: the records are not there, or it was not embedded from them.
          DataError: the records are not those that were embedded.
        """
        source = collection.catalogue.facts(int(collection.catalogue.find([name])[0]))["source_uri"]
        with self._lock:
            records, embedded = self._open()
        row = embedded.known([name]).get(name)
        if row is None or embedded.facts(row)["source_uri"] != source:
            raise ConfigError(
                f"{name!r} was added after the records were embedded, which do not hold its "
                "pixels; give its file as an image"
            )
        return records.read([row], [bundle.sensor])["image"][bundle.sensor][0]

    def _open(self) -> tuple[RecordSet, Catalogue]:
        manifest = artifacts.load(self._run / "embeddings")
        expected = manifest["inputs"]["records"]
        if self._records is None or self._records[0] != expected:
            try:
                records = open_records(self._directory)
            except FileNotFoundError as error:
                raise ConfigError(
                    f"{self._directory}: got no records there, expected those of the run, which a "
                    "crop of one of their images needs; say where they are (--records)"
                ) from error
            if records.manifest["fingerprint"] != expected:
                raise DataError(
                    f"{self._directory}: got the records {records.manifest['fingerprint'][:12]}, "
                    f"expected {expected[:12]}, which were embedded; give those"
                )
            table, _ = reading.read_columns(self._run / "embeddings", ("source_uri",))
            self._records = expected, records, Catalogue(table)
        return self._records[1:]
