"""What made the vectors, as the footer of every part says it."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
import safetensors.numpy

from rejepa_jax import artifacts
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.retrieval.encoder import Bundle


def footer(bundle: Bundle, records: RecordSet, licence: str = "") -> dict[str, Any]:
    """Returns all that does not depend on the part.

    `params_sha256` is that of the bundle's file of weights, `config_sha256` of all else that
    decides what an embedding is; the time of making is in the manifest, so that the same rows make
    the same bytes.
    """
    given = bundle.preprocess.inputs[bundle.sensor]
    bands = [bundle.record.bands[i] for i in given.bands]
    preprocessing = {
        "sensor": bundle.sensor,
        "record_size": [bundle.record.height, bundle.record.width],
        "image_size": bundle.preprocess.image_size,
        **dataclasses.asdict(given),
        "bands": bands,
    }
    spec = dataclasses.asdict(bundle.encoder.spec)
    arrays = {name: np.asarray(array) for name, array in named_arrays(bundle.encoder).items()}
    return {
        "fingerprint": bundle.fingerprint,
        "model": {
            "name": bundle.name,
            "step": bundle.step,
            "params_sha256": hashlib.sha256(safetensors.numpy.save(arrays)).hexdigest(),
            "config_sha256": artifacts.fingerprint([spec, preprocessing, bundle.pool]),
            **spec,
        },
        "preprocessing": preprocessing,
        "bands": bands,
        "pool": bundle.pool,
        "source": {
            "collection": records.schema.name,
            "records_fingerprint": records.manifest["fingerprint"],
        },
        "licence": licence,
        "versions": artifacts.versions(),
    }
