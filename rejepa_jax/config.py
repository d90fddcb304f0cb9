"""Every setting, its default and its meaning, once; and the rules that hold between settings.

`base_config()` is what a config file starts from, `resolve()` checks a filled-in config and turns
it into the frozen `Config` that everything below `main` receives. Lengths are in steps; a config
file that thinks in epochs converts with `epochs_to_steps`.
"""

import dataclasses
import math
import types
import typing
from typing import Any

from ml_collections import config_dict

from rejepa_jax.types import ConfigError

SIZES = {  # embed_dim, depth, num_heads: the ViT family (Dosovitskiy et al. 2021; Touvron 2021)
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the images come from and what the model sees of them."""

    layout: str = "bigearthnet"  # bigearthnet | image_folder | synthetic
    archive: str = ""  # directory, .tar or .zip; the synthetic layout writes its own
    selection: str = "clean"  # bigearthnet: clean | all | ben14k
    split_file: str = ""  # image_folder: CSV of name,label,split
    record_size: int = 0  # image_folder: bring images of mixed sizes to this, 0 = refuse them
    records: str = ""  # use or make the records here instead of in the run directory
    sensor: str = "s2"
    bands: tuple[str, ...] = ()  # () = every band of the sensor, in the records' order
    image_size: int = 224  # pixels a side after resampling on the device
    statistics: str = "records"  # standardise by: records (training split) | published | image
    train_split: str = "train"
    seed: int = 0  # order of the images


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """How many patches the synthetic archive has."""

    seed: int = 0
    train: int = 1024
    validation: int = 256
    test: int = 512


@dataclasses.dataclass(frozen=True)
class Prepare:
    """How an archive becomes records."""

    workers: int = 0  # processes; 0 = one a core
    shard_records: int = 1024  # records in a shard; the shards do not depend on the workers
    max_bad_fraction: float = 0.01  # of the items may be unusable before the stage stops


@dataclasses.dataclass(frozen=True)
class Augment:
    """Random changes to each training view, drawn on the device."""

    crop_scale: tuple[float, float] = (1.0, 1.0)  # area of the random crop, as a share
    crop_ratio: tuple[float, float] = (0.75, 4 / 3)  # its aspect ratio, where the scale is not 1
    flip: bool = True  # mirror left-right and top-bottom
    rotate: bool = False  # by a random number of quarter turns
    gain: float = 0.0  # the image times exp(N(0, gain)), after standardisation
    offset: float = 0.0  # the image plus N(0, offset), in standard deviations
    band_gain: float = 0.0  # the same for each band by itself
    band_offset: float = 0.0


@dataclasses.dataclass(frozen=True)
class Model:
    """Sizes of the encoder and the predictor; None takes the value of the named size."""

    size: str = "base"  # tiny | small | base | large
    patch_size: int = 16
    embed_dim: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    mlp_ratio: float = 4.0
    predictor_dim: int = 384
    predictor_depth: int = 12
    dtype: str = "auto"  # of activations: float32 | bfloat16 | auto (bfloat16 on accelerators)


@dataclasses.dataclass(frozen=True)
class Mask:
    """Which tokens are predicted from which."""

    target_ratio: float = 0.25  # share of the tokens that are targets; the rest is context


@dataclasses.dataclass(frozen=True)
class Vicreg:
    """Regularisation of the pooled features (Bardes et al. 2022; paper eqs. 8-10, 12)."""

    weight: float = 0.001  # α, on the sum of the three terms
    std_target: float = 1.0  # γ of eq. 8
    eps: float = 1e-4  # ε of eq. 8
    variance_weight: float = 25.0
    covariance_weight: float = 1.0
    invariance_weight: float = 25.0
    invariance: str = "pred_target"  # none | pred_target | two_view


@dataclasses.dataclass(frozen=True)
class Ema:
    """How slowly the target encoder follows: the share of the old weights kept at each step."""

    start: float = 0.996
    end: float = 1.0
    schedule: str = "linear"  # linear | constant (start throughout)


@dataclasses.dataclass(frozen=True)
class Optim:
    """AdamW and its two schedules: learning rate (warm-up, cosine) and weight decay (cosine)."""

    peak_lr: float = 1e-3
    start_lr: float = 1e-4
    end_lr: float = 1e-6
    warmup_steps: int = 900
    weight_decay_start: float = 0.04
    weight_decay_end: float = 0.4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclasses.dataclass(frozen=True)
class Train:
    """How long, in what batches, and how often something is written."""

    steps: int = 10000
    batch_size: int = 128  # over all devices and hosts
    log_every: int = 50
    save_every: int = 1000
    keep: int = 2  # checkpoints kept beside the last


@dataclasses.dataclass(frozen=True)
class Eval:
    """What is embedded, and which images query which."""

    encoder: str = "target"  # which of the method's encoders fills the index
    pool: str = "mean"
    k: int = 10
    query_split: str = "validation"
    gallery_split: str = "test"
    batch_size: int = 128


@dataclasses.dataclass(frozen=True)
class Index:
    """How the embeddings are searched."""

    kind: str = "auto"  # exact | scann | auto (scann where it is installed)


@dataclasses.dataclass(frozen=True)
class Report:
    """What the page shows."""

    queries: int = 8


@dataclasses.dataclass(frozen=True)
class Config:
    """One run."""

    method: str = "rejepa"
    seed: int = 0  # parameters, masks and augmentation
    data: Data = Data()
    synthetic: Synthetic = Synthetic()
    prepare: Prepare = Prepare()
    augment: Augment = Augment()
    model: Model = Model()
    mask: Mask = Mask()
    vicreg: Vicreg = Vicreg()
    ema: Ema = Ema()
    optim: Optim = Optim()
    train: Train = Train()
    eval: Eval = Eval()
    index: Index = Index()
    report: Report = Report()


def base_config() -> config_dict.ConfigDict:
    """Returns every default as a ConfigDict, for a config file to change."""
    return config_dict.ConfigDict(_with_placeholders(Config()))


def _with_placeholders(settings: Any) -> dict[str, Any]:
    """Turns a dataclass into a dict in which an optional setting keeps its type while None."""
    hints = typing.get_type_hints(type(settings))
    out = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            value = _with_placeholders(value)
        elif value is None:
            value = config_dict.placeholder(typing.get_args(hints[field.name])[0])
        out[field.name] = value
    return out


def epochs_to_steps(epochs: float | int, images: int, batch_size: int) -> int:
    """Returns the steps in which `epochs` passes over `images` are made, the last one filled up."""
    return math.ceil(epochs * images / batch_size)


def resolve(config: config_dict.ConfigDict | dict[str, Any]) -> Config:
    """Returns the frozen form of a filled-in config.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type, or two settings contradict.
    """
    values = config.to_dict() if isinstance(config, config_dict.ConfigDict) else config
    resolved = _build(Config, values, "config")
    validate(resolved)
    embed_dim, depth, num_heads = SIZES[resolved.model.size]
    filled = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}
    given = {key: getattr(resolved.model, key) for key in filled}
    filled |= {key: value for key, value in given.items() if value is not None}
    resolved = dataclasses.replace(resolved, model=dataclasses.replace(resolved.model, **filled))
    validate_model(resolved.model)
    return resolved


def _build(kind: type, values: dict[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{path}.{unknown[0]} is no setting; {path} has {sorted(hints)}")
    return kind(**{k: _convert(hints[k], v, f"{path}.{k}") for k, v in values.items()})


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{path} = {value!r}: expected a group of settings")
        return _build(typing.cast(type, hint), value, path)
    if isinstance(hint, types.UnionType):
        return None if value is None else _convert(typing.get_args(hint)[0], value, path)
    if typing.get_origin(hint) is tuple:
        items = typing.get_args(hint)
        if not isinstance(value, list | tuple) or (
            items[-1] is not ... and len(items) != len(value)
        ):
            raise ConfigError(f"{path} = {value!r}: expected {hint}")
        return tuple(_convert(items[0], item, path) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{path} = {value!r}: expected {hint.__name__}")
    return value


CHOICES = {
    "method": ("rejepa",),
    "data.layout": ("bigearthnet", "image_folder", "synthetic"),
    "data.selection": ("clean", "all", "ben14k"),
    "data.statistics": ("records", "published", "image"),
    "model.size": tuple(SIZES),
    "model.dtype": ("auto", "float32", "bfloat16"),
    "vicreg.invariance": ("none", "pred_target", "two_view"),
    "ema.schedule": ("linear", "constant"),
    "eval.encoder": ("target", "context"),
    "eval.pool": ("mean",),
    "index.kind": ("auto", "exact", "scann"),
}
POSITIVE = (
    *("prepare.shard_records", "train.steps", "train.batch_size", "train.log_every"),
    *("train.save_every", "eval.k", "eval.batch_size"),
)
SIZED = ("embed_dim", "depth", "num_heads", "predictor_dim", "predictor_depth")


def validate(config: Config) -> None:
    """Checks what must hold between settings, whatever the data.

    Raises:
        ConfigError: naming the keys to change.
    """
    for path, choices in CHOICES.items():
        value = _look_up(config, path)
        _require(value in choices, f"config.{path} = {value!r}: choose one of {list(choices)}")
    size, patch = config.data.image_size, config.model.patch_size
    _require(
        patch > 0 and size % patch == 0,
        f"config.data.image_size = {size} must be a multiple of config.model.patch_size = {patch}",
    )
    tokens = (size // patch) ** 2
    targets = int(config.mask.target_ratio * tokens)
    _require(
        0 < targets < tokens,
        f"config.mask.target_ratio = {config.mask.target_ratio} of {tokens} tokens gives {targets} "
        "targets; at least one target and one context token are needed",
    )
    low, high = config.augment.crop_scale
    _require(
        0 < low <= high <= 1, f"config.augment.crop_scale = {(low, high)}: 0 < low <= high <= 1"
    )
    low, high = config.augment.crop_ratio
    _require(0 < low <= high, f"config.augment.crop_ratio = {(low, high)}: 0 < low <= high")
    for path in POSITIVE:
        value = _look_up(config, path)
        _require(value > 0, f"config.{path} = {value}: must be at least 1")
    _require(
        config.train.batch_size > 1 or config.vicreg.weight == 0,
        "config.train.batch_size = 1: the variance terms need at least 2 (or vicreg.weight = 0)",
    )
    _require(
        0 <= config.optim.warmup_steps <= config.train.steps,
        f"config.optim.warmup_steps = {config.optim.warmup_steps} must lie in 0 .. "
        f"config.train.steps = {config.train.steps}",
    )


def validate_model(model: Model) -> None:
    """Checks that widths divide into heads and into the four parts of a sine-cosine position."""
    for name in SIZED:
        value = getattr(model, name)
        _require(value > 0, f"config.model.{name} = {value}: must be at least 1")
    for name in ("embed_dim", "predictor_dim"):
        width, heads = getattr(model, name), model.num_heads
        _require(
            width % heads == 0 and width % 4 == 0,
            f"config.model.{name} = {width} must be a multiple of 4 and of num_heads = {heads}",
        )


def _look_up(config: Config, path: str) -> Any:
    group, _, key = path.rpartition(".")
    return getattr(getattr(config, group) if group else config, key)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
