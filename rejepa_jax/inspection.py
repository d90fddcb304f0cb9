"""What a config would build and what a directory holds, in words; reads, never changes."""

import importlib.util
import pathlib
from typing import Any

import jax

from rejepa_jax import artifacts
from rejepa_jax.config import Config
from rejepa_jax.console import table
from rejepa_jax.data import in_words, sensors
from rejepa_jax.data.summary import SUMMARY, to_text
from rejepa_jax.methods.build import build_method
from rejepa_jax.methods.contract import Method
from rejepa_jax.methods.masking import mask_sizes
from rejepa_jax.models.arrays import count_parameters
from rejepa_jax.models.flops import encoder_flops
from rejepa_jax.models.predictor import Predictor
from rejepa_jax.models.vit import Encoder
from rejepa_jax.retrieval.pooling import POOLS
from rejepa_jax.storage import fetching, mirror
from rejepa_jax.types import ConfigError


def artefacts(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the complete artefacts at a path: the directory itself, or those in a run.

    Raises:
        FileNotFoundError: there is none.
    """
    candidates = [path, *sorted(path.iterdir())] if path.is_dir() else []
    candidates += sorted(path.glob("updates/[0-9]*"))
    found = [place for place in candidates if (place / artifacts.MANIFEST).exists()]
    if not found:
        raise FileNotFoundError(f"{path}: no finished artefact here; give a run directory")
    return found


def describe(path: pathlib.Path) -> str:
    """Describes an artefact, every artefact of a run, a shard of records, or an archive.

    Raises:
        DataError: it is none of these, or damaged.
    """
    if in_words.is_shard(path):
        return in_words.describe_shard(path)
    try:
        found = artefacts(path)
    except FileNotFoundError:
        return in_words.guess_layout(path)
    return "\n\n".join(map(_describe_artefact, found))


def describe_config(config: Config) -> str:
    """Describes the archive, if it is there, and the model.

    That is tokens and shapes, parameters and FLOPs by part, which need no data.
    """
    known = sensors.SENSORS.get(config.data.sensor)
    names = config.data.bands or (known.band_names if known else ())
    if not names:
        raise ConfigError(
            f"sensor {config.data.sensor!r} has no known bands; set config.data.bands"
        )
    method = build_method(config, len(names))
    params = jax.eval_shape(method.init, jax.random.key(0))
    average = method.averaged(params)
    encoder = next(iter(method.encoders(params, average).values()))
    size, spec = config.data.image_size, encoder.spec
    lines = [
        f"method {config.method}, model {config.model.size}: {_layers(params)}",
        f"image [b {size} {size} {len(names)}] of sensor {config.data.sensor}: {', '.join(names)}",
        f"tokens [b {spec.num_tokens} {spec.embed_dim}]: a {spec.grid_size} x {spec.grid_size} "
        f"grid of {spec.patch_size} px patches{', and a class token' if spec.class_token else ''}",
        *_masks(method, spec.grid_size),
        f"embedding [b {_width(encoder, config.eval.pool)}], pooling {config.eval.pool}",
    ]
    counts = table(_parameter_table(params, average, encoder))
    archive = filter(None, [in_words.describe_archive(config)])
    return "\n\n".join([*archive, "\n".join(lines), counts, table(_flops_table(method, encoder))])


def _layers(params: dict[str, Any]) -> str:
    """Says how deep and wide each transformer is."""
    specs = {part: getattr(module, "spec", None) for part, module in params.items()}
    return "; ".join(
        f"{part} {spec.depth} layers of {getattr(spec, 'embed_dim', None) or spec.dim}, "
        f"{spec.num_heads} heads"
        for part, spec in specs.items()
        if spec
    )


def _masks(method: Method, grid_size: int) -> list[str]:
    """Says how many tokens are seen and predicted, if the method has masks."""
    mask = getattr(method, "mask", None)
    return [
        f"masks: context [b {context}], target [b {groups} {targets}]"
        for context, groups, targets in (mask_sizes(grid_size, mask) if mask else ())
    ]


def _width(encoder: Encoder, pool: str) -> int:
    size, bands = encoder.spec.image_size, encoder.spec.bands
    image = jax.ShapeDtypeStruct((1, size, size, bands), "float32")
    return jax.eval_shape(POOLS[pool], encoder, image).shape[1]


def _parameter_table(params: dict[str, Any], average: Any, encoder: Encoder) -> list[list[str]]:
    """Counts parameters by part and by use; the paper's count includes the fixed positions."""
    trained = [(part, *_count(module)) for part, module in params.items()]
    resident = trained + ([("slow average", *_count(average))] if average is not None else [])
    lines = [
        *resident,
        ("trained", *_total(trained)),
        ("resident in training", *_total(resident)),
        ("needed for retrieval", *_count(encoder)),
    ]
    heading = ["part", "parameters", "fixed positions", "together"]
    return [heading, *([name, f"{a:,}", f"{b:,}", f"{a + b:,}"] for name, a, b in lines)]


def _count(module: Any) -> tuple[int, int]:
    """Counts a part's parameters, and the numbers of its table of fixed positions."""
    fixed = 0
    if isinstance(module, Encoder) and module.spec.positions == "fixed":
        fixed = module.spec.num_tokens * module.spec.embed_dim
    if isinstance(module, Predictor):
        fixed = module.grid_size**2 * module.spec.dim
    return count_parameters(module), fixed


def _total(lines: list[tuple[str, int, int]]) -> tuple[int, int]:
    return sum(count for _, count, _ in lines), sum(fixed for _, _, fixed in lines)


def _flops_table(method: Method, encoder: Encoder) -> list[list[str]]:
    """Counts multiplications and additions for an image, in billions."""
    lines = [
        *method.flops.items(),
        ("one training step", sum(method.flops.values())),
        ("embedding", encoder_flops(encoder.spec)),
    ]
    return [["part", "GFLOP an image"], *([name, f"{count / 1e9:.3f}"] for name, count in lines)]


def _describe_artefact(path: pathlib.Path) -> str:
    manifest = artifacts.load(path, is_fetched=False)
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    lines = [
        f"{mirror.address(path)}: {manifest['stage']}, {len(manifest['files'])} files, "
        f"{size / 1e6:.1f} MB, made "
        f"{manifest['created']}, fingerprint {manifest['fingerprint'][:12]}"
    ]
    fetching.complete(path, {n: e for n, e in manifest["files"].items() if n == SUMMARY})
    if (path / SUMMARY).exists():
        return "\n\n".join([*lines, to_text(artifacts.read_json(path / SUMMARY))])
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
