"""An encoder as files for others: a bundle, a StableHLO module, timm's names, and a model card."""

import pathlib

import safetensors.numpy

from rejepa_jax import artifacts
from rejepa_jax.retrieval.encoder import DESCRIPTION, load_bundle, save_bundle
from rejepa_jax.retrieval.weights.model_card import write_card
from rejepa_jax.retrieval.weights.stablehlo import to_stablehlo
from rejepa_jax.retrieval.weights.vit_names import to_timm
from rejepa_jax.types import ConfigError

CARD, MODULE, TIMM = "README.md", "encoder.stablehlo", "timm.safetensors"


def export_weights(source: pathlib.Path, directory: pathlib.Path, encoder: str | None) -> list[str]:
    """Writes an encoder of a run, or a bundle, for use elsewhere; returns the files' names.

    The result is a bundle itself, with the fingerprint of the one it was made from.

    Args:
        source: a run directory or a bundle.
        directory: what to make.
        encoder: which of a run's encoders; None takes the one that fills its index.

    Raises:
        FileNotFoundError, DataError: there is no whole bundle.
        ConfigError: the run has no such encoder, or it is too large for a module.
    """
    place, run = _find(source, encoder)
    bundle = load_bundle(place)
    inputs = {"encoder": bundle.fingerprint}
    if run and (run / "evaluation" / artifacts.MANIFEST).exists():
        inputs["evaluation"] = artifacts.load(run / "evaluation")["fingerprint"]

    notes = _notes(place)

    def build(partial: pathlib.Path) -> artifacts.Built:
        save_bundle(bundle, partial)
        (partial / MODULE).write_bytes(to_stablehlo(bundle))
        safetensors.numpy.save_file(to_timm(bundle.encoder), partial / TIMM)
        (partial / CARD).write_text(write_card(bundle, run, notes), encoding="utf-8")
        return artifacts.Built({"encoder": bundle.name, "notes": notes})

    return list(artifacts.run_stage(directory, {}, inputs, build)["files"])


def _find(source: pathlib.Path, encoder: str | None) -> tuple[pathlib.Path, pathlib.Path | None]:
    """Returns where the bundle is, and the run that it belongs to, if any."""
    if (source / DESCRIPTION).exists():
        encoders = source.absolute().parent
        is_run = encoders.name == "encoders" and (encoders / artifacts.MANIFEST).exists()
        return source, encoders.parent if is_run else None
    known = artifacts.load(source / "encoders")["info"]["encoders"]
    name = encoder or artifacts.load(source / "embeddings")["settings"]["encoder"]
    if name not in known:
        raise ConfigError(f"{source} has the encoders {known}, got {name!r}; choose one of them")
    return source / "encoders" / name, source


def _notes(bundle: pathlib.Path) -> list[str]:
    """Returns what was said when the bundle was imported; nothing for any other."""
    has_manifest = (bundle / artifacts.MANIFEST).exists()
    return artifacts.load(bundle)["info"].get("notes", []) if has_manifest else []
