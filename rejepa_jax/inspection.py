"""What a config would build and what a directory holds, in words; reads, never changes."""

import importlib.util
import pathlib
from typing import Any

import jax

from rejepa_jax import artifacts
from rejepa_jax.config import Config
from rejepa_jax.console import table
from rejepa_jax.data import sensors
from rejepa_jax.methods.build import build_method
from rejepa_jax.methods.masking import token_counts
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.models.vit import Encoder
from rejepa_jax.types import ConfigError


def artefacts(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the complete artefacts at a path: the directory itself, or those in a run.

    Raises:
        FileNotFoundError: there is none.
    """
    candidates = [path, *sorted(path.iterdir())] if path.is_dir() else []
    found = [place for place in candidates if (place / artifacts.MANIFEST).exists()]
    if not found:
        raise FileNotFoundError(f"{path}: no finished artefact here; give a run directory")
    return found


def describe(path: pathlib.Path) -> str:
    """Describes an artefact, or every artefact of a run."""
    return "\n\n".join(_describe_artefact(place) for place in artefacts(path))


def describe_config(config: Config) -> str:
    """Describes the model: parameters by part and use, tokens and shapes; needs no data."""
    known = sensors.SENSORS.get(config.data.sensor)
    names = config.data.bands or (known.band_names if known else ())
    if not names:
        raise ConfigError(
            f"sensor {config.data.sensor!r} has no known bands; set config.data.bands"
        )
    method = build_method(config, len(names))
    params = jax.eval_shape(method.init, jax.random.key(0))
    encoder = next(iter(method.encoders(params, method.averaged(params)).values()))
    tokens = encoder.spec.num_tokens
    context, targets = token_counts(tokens, config.mask.target_ratio)
    size, spec = config.data.image_size, encoder.spec
    return "\n".join(
        [
            f"method {config.method}, model {config.model.size}: {spec.depth} layers of "
            f"{spec.embed_dim}, {spec.num_heads} heads; predictor {config.model.predictor_depth} "
            f"layers of {config.model.predictor_dim}",
            f"image [b {size} {size} {len(names)}] of sensor {config.data.sensor}: "
            f"{', '.join(names)}",
            f"tokens [b {tokens} {spec.embed_dim}]: a {spec.grid_size} x {spec.grid_size} grid of "
            f"{spec.patch_size} px patches; context [b {context}], target [b 1 {targets}]",
            f"embedding [b {spec.embed_dim}]",
            "",
            table(_count_table(config, params, method.averaged(params), encoder)),
        ]
    )


def _count_table(config: Config, params: Any, average: Any, encoder: Encoder) -> list[list[str]]:
    """Counts parameters by part and by use; the paper's count includes the fixed positions."""
    trained = {part: count_parameters(tree) for part, tree in params.items()}
    resident = dict(trained)
    if average is not None:
        resident["target_encoder (average)"] = count_parameters(average)
    tokens = encoder.spec.num_tokens
    widths = {"predictor": config.model.predictor_dim}
    fixed = {part: tokens * widths.get(part, encoder.spec.embed_dim) for part in resident}
    needed = count_parameters(encoder), tokens * encoder.spec.embed_dim
    lines = [(part, count, fixed[part]) for part, count in resident.items()]
    lines += [
        ("trained", sum(trained.values()), sum(fixed[part] for part in trained)),
        ("resident in training", sum(resident.values()), sum(fixed.values())),
        ("needed for retrieval", *needed),
    ]
    heading = ["part", "parameters", "fixed positions", "together"]
    return [heading, *([name, f"{a:,}", f"{b:,}", f"{a + b:,}"] for name, a, b in lines)]


def _describe_artefact(path: pathlib.Path) -> str:
    manifest = artifacts.load(path)
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    lines = [
        f"{path}: {manifest['stage']}, {len(manifest['files'])} files, {size / 1e6:.1f} MB, made "
        f"{manifest['created']}, fingerprint {manifest['fingerprint'][:12]}"
    ]
    return "\n".join(lines + _tree(manifest["info"], "  "))


def _tree(content: Any, indent: str) -> list[str]:
    if isinstance(content, dict):
        lines = []
        for key, value in content.items():
            nested = isinstance(value, dict) or (isinstance(value, list) and len(str(value)) > 70)
            lines += [f"{indent}{key}:"] if nested else [f"{indent}{key}: {value}"]
            lines += _tree(value, indent + "  ") if nested else []
        return lines
    if isinstance(content, list):
        shown = [f"{indent}- {_short(item)}" for item in content[:4]]
        more = len(content) - len(shown)
        return shown + ([f"{indent}... and {more} more"] if more > 0 else [])
    return [f"{indent}{content}"]


def _short(item: Any) -> str:
    text = str(item)
    return text if len(text) <= 90 else text[:87] + "..."


def describe_machine() -> str:
    """Describes versions, devices and optional packages."""
    lines = [f"{name} {version}" for name, version in artifacts.versions().items()]
    if importlib.util.find_spec("scann") is None:
        lines.append("scann is not installed: indexes are exact")
    kinds = ", ".join(sorted({device.device_kind for device in jax.devices()}))
    lines.append(f"devices: {len(jax.devices())} x {kinds} ({jax.default_backend()})")
    return "\n".join(lines)
