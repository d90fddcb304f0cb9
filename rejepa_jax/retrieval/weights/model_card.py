"""What an exported encoder is, in words: for whoever gets the files without the run."""

import importlib.resources
import pathlib
from typing import Any

import jax
import jinja2

from rejepa_jax import artifacts
from rejepa_jax.data import sensors
from rejepa_jax.data.prepare import SCHEMA
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.retrieval.encoder import Bundle
from rejepa_jax.retrieval.pooling import POOLS

POOLING = {
    "mean": "their mean",
    "mean_std": "their mean and their standard deviation, one after the other",
    "gem": "the cube root of the mean of their cubes",
    "attention": "their mean, weighted by how much the last block's attention looks at each",
}


def write_card(bundle: Bundle, run: pathlib.Path | None, notes: list[str]) -> str:
    """Returns the page in Markdown; `run` is where it was trained, `notes` what else is known."""
    record, given = bundle.record, bundle.preprocess.inputs[bundle.sensor]
    taken = [record.bands[place] for place in given.bands]
    known = sensors.SENSORS.get(bundle.sensor)
    template = importlib.resources.files("rejepa_jax.retrieval.weights") / "model_card.md"
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        bundle=bundle,
        spec=bundle.encoder.spec,
        record=record,
        given=given,
        taken=taken,
        statistics=list(zip(taken, given.mean, given.std, strict=False)),
        title=known.title if known else f"Sensor `{bundle.sensor}`",
        resampled=record.shape[:2] != (bundle.preprocess.image_size,) * 2,
        parameters=count_parameters(bundle.encoder),
        pooling=POOLING[bundle.pool],
        size=_descriptor_size(bundle),
        jax=jax.__version__,
        timm=_timm_arguments(bundle),
        notes=notes,
        **_find_facts(run),
    )


def _descriptor_size(bundle: Bundle) -> int:
    """Counts the numbers of a descriptor, which depend on the pooling too."""
    spec = bundle.encoder.spec
    view = jax.ShapeDtypeStruct((1, spec.image_size, spec.image_size, spec.bands), "float32")
    return jax.eval_shape(POOLS[bundle.pool], bundle.encoder, view).shape[1]


def _find_facts(run: pathlib.Path | None) -> dict[str, Any]:
    """Returns what a run's artefacts tell: settings, data, scores; None where there is nothing."""
    facts: dict[str, Any] = {"training": None, "data": None, "table": None}
    if run and (run / "checkpoints" / artifacts.MANIFEST).exists():
        facts["training"] = artifacts.load(run / "checkpoints")["settings"]
    if run and (run / "evaluation" / artifacts.MANIFEST).exists():
        artifacts.load(run / "evaluation")
        facts["table"] = (run / "evaluation" / "table.txt").read_text(encoding="utf-8").strip()
    if run and (run / "records" / artifacts.MANIFEST).exists():
        manifest = artifacts.load(run / "records")
        archive = manifest["inputs"]["archive"]
        splits = manifest["info"]["splits"].items()
        facts["data"] = {
            "name": artifacts.read_json(run / "records" / SCHEMA)["name"],
            "archive": archive["name"] if isinstance(archive, dict) else "",
            "layout": manifest["settings"]["layout"],
            "fingerprint": manifest["fingerprint"],
            "splits": {split: entry["records"] for split, entry in splits},
        }
    return facts


def _timm_arguments(bundle: Bundle) -> str:
    spec = bundle.encoder.spec
    arguments = {
        "img_size": spec.image_size,
        "patch_size": spec.patch_size,
        "in_chans": spec.bands,
        "embed_dim": spec.embed_dim,
        "depth": spec.depth,
        "num_heads": spec.num_heads,
        "mlp_ratio": spec.mlp_ratio,
        "class_token": spec.class_token,
        "global_pool": "avg",
        "fc_norm": False,
        "num_classes": 0,
    }
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
