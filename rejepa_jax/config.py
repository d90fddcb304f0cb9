"""Every setting, its default and its meaning, once.

`base_config()`, or `base_config(preset)`, is what a config file starts from; `resolve.resolve`
checks a filled-in config and turns it into the frozen `Config` that everything below `main`
receives. Lengths are in steps; a config file that thinks in epochs converts with `epochs_to_steps`.
"""

import dataclasses
import math
import typing
from typing import Any

from ml_collections import config_dict

from rejepa_jax.presets import PRESETS
from rejepa_jax.types import ConfigError


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the images come from and what the model sees of them."""

    layout: str = "bigearthnet"  # how the archive lies on disk: data/archives/layouts.py has all
    archive: str = ""  # directory, .tar or .zip; the synthetic layout writes its own
    selection: str = ""  # which part of it; "" = the layout's own default
    split_file: str = ""  # split lists or table, where the layout takes one
    split_by: str = "archive"  # archive (its own splits) | location | block
    split_shares: tuple[float, float, float] = (0.6, 0.2, 0.2)  # else: of train, validation, test
    block_km: float = 10.0  # split_by = block: side of a block of ground
    block_gap_km: float = 0.0  # and no image so near to a block of a later split
    file_bands: tuple[str, ...] = ()  # order of the bands in files that do not name them
    file_sensors: tuple[str, ...] = ()  # bigearthnet: read only these; () = what the archive has
    features: tuple[str, ...] = ()  # tfds: names of its image and label features; () = by kind
    record_size: int = 0  # bring images of mixed sizes to this, 0 = refuse them
    records: str = ""  # use or make the records here instead of in the run directory
    check: str = "every"  # verify a record's checksum at every | the first reading in a run
    sensor: str = "s2"
    bands: tuple[str, ...] = ()  # () = every band of the sensor, in the records' order
    image_size: int = 224  # pixels a side after resampling on the device
    statistics: str = "records"  # of the training split | image, its own | a published table's name
    normalise: str = "standardise"  # standardise | clip (mean +- 2 std to 0..1) | min_max
    train_split: str = "train"
    resident: bool = False  # hold the training split on every device: for small archives
    prefetch: int = 2  # batches that are brought to the devices while a step runs
    seed: int = 0  # order of the images


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """How many patches the synthetic archive has."""

    seed: int = 0
    train: int = 1024
    validation: int = 256
    test: int = 512


@dataclasses.dataclass(frozen=True)
class Scenes:
    """How your own scenes are cut into patches (layout scenes)."""

    patch: int = 120  # pixels a side
    stride: int = 0  # pixels from patch to patch; 0 = patch: side by side
    min_valid: float = 0.9  # share of pixels that must be known in every band
    mask: str = (
        ""  # cloud mask beside each scene: a STAC asset's name, or a suffix such as _SCL.tif
    )
    labels: str = "none"  # none | folder: the class of a scene is the folder that it lies in
    mask_values: tuple[int, ...] = (0, 1, 3, 8, 9, 10)  # unusable; these are of Sentinel-2's SCL


@dataclasses.dataclass(frozen=True)
class Prepare:
    """How an archive becomes records."""

    workers: int = 0  # processes; 0 = one a core
    shard_records: int = 1024  # records in a shard; the shards do not depend on the workers
    max_bad_fraction: float = 0.01  # of the items may be unusable before the stage stops
    beam: str = ""  # options of an Apache Beam pipeline, docs/how-to-beam.md; "" = processes here


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
    class_token: bool = False
    positions: str = "fixed"  # fixed (sine-cosine) | learned
    predictor_dim: int = 384
    predictor_depth: int = 12
    predictor_heads: int | None = None  # None = as many as the encoder's
    predictor_mode: str = "joint"  # targets of one call: joint (all) | per_group | per_token
    query_attention: str = "joint"  # joint | independent: mask tokens do not see one another
    weights: str = ""  # start from the encoder in this bundle (`rejepa import`), "" = at random
    dtype: str = "auto"  # of activations: float32 | bfloat16 | auto (bfloat16 on accelerators)
    unroll: bool = False  # compile each layer instead of a loop: more to compile, no faster
    remat: str = "none"  # kept for the backward pass: none (what is dear) | dots | block (inputs)


@dataclasses.dataclass(frozen=True)
class Mask:
    """Which tokens are predicted from which; scales and ratios are shares of the grid's tokens."""

    strategy: str = "random_disjoint"  # random_disjoint | multiblock (I-JEPA) | multimask (V-JEPA)
    target_ratio: float = 0.25  # random: share of the tokens that are targets
    context_ratio: float | None = None  # share kept as context; None = all that the strategy leaves
    disjoint: str = "partition"  # random: partition | context_minus_target | none
    num_target_groups: int = 1  # random: equal parts of the targets; multiblock: blocks (I-JEPA: 4)
    target_scale: tuple[float, float] = (0.15, 0.2)  # multiblock: area of a target block
    target_aspect: tuple[float, float] = (0.75, 1.5)  # and its height / width
    context_scale: tuple[float, float] = (0.85, 1.0)  # multiblock: area of the context block
    min_context: int = 10  # multiblock: draw the context block again if fewer tokens are left
    block_law: str = "fixed"  # of both block strategies: fixed | faithful to the published quirks
    multimask: tuple[tuple[float, float], ...] = ((8.0, 0.15), (2.0, 0.7))  # blocks and their area


@dataclasses.dataclass(frozen=True)
class Target:
    """What the predictor has to guess."""

    input: str = "full"  # the target encoder sees the full image | target_patches
    norm: str = "layer"  # its tokens are normalised over: layer (features) | none | batch


@dataclasses.dataclass(frozen=True)
class Loss:
    """How a guess is compared with the truth (eq. 11)."""

    type: str = "l2"  # l2 | smooth_l1 | l1
    reduction: str = "mean"  # over features: mean | sum_dim (eqs. 10 and 11 as printed)


@dataclasses.dataclass(frozen=True)
class Vicreg:
    """Regularisation of the features (Bardes et al. 2022; paper eqs. 8-10, 12)."""

    weight: float = 0.001  # α, on the sum of the three terms
    std_target: float = 1.0  # γ of eq. 8
    eps: float = 1e-4  # ε of eq. 8
    variance_weight: float = 25.0
    covariance_weight: float = 1.0
    invariance_weight: float = 25.0
    invariance: str = "pred_target"  # none | pred_target | two_view
    on: tuple[str, ...] = ("context",)  # context | prediction, pooled; context_tokens
    pool: str = "mean"  # of the context's tokens: mean | mean_std (their deviations too)
    expander: tuple[int, ...] = ()  # widths of an MLP between the features and the terms
    stats: str = "global"  # over the batch of all devices | per_device


@dataclasses.dataclass(frozen=True)
class Mae:
    """The masked autoencoder (He et al. 2022) that `method = mae` trains."""

    mask_ratio: float = 0.75
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    norm_pix: bool = True  # reconstruct patches standardised each by itself


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
    weight_decay_schedule: str = "cosine"  # cosine (I-JEPA) | linear
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclasses.dataclass(frozen=True)
class Mesh:
    """How devices share the work; a run may go on with other numbers (docs/scaling.md)."""

    data: int = -1  # devices that split the batch and nothing else; -1 = all that the others leave
    fsdp: int = 1  # devices that split the batch, and parameters, moments and average too
    tensor: int = 1  # devices that split the width of every layer


@dataclasses.dataclass(frozen=True)
class Train:
    """How long, in what batches, and how often something is written."""

    steps: int = 10000
    batch_size: int = 128  # over all devices and hosts
    accumulate: int = 1  # parts of a batch, gone through one after the other before each update
    log_every: int = 50
    save_every: int = 1000
    keep: int = 2  # checkpoints kept beside the last
    keep_every: int = 0  # and for good those of steps that this divides; 0 = none
    strict_restore: bool = False  # refuse a damaged checkpoint instead of taking an earlier one
    hang_timeout: int = 1800  # seconds without a step after which a process gives up; 0 = never


@dataclasses.dataclass(frozen=True)
class Health:
    """What is measured of the features while training; none of it changes the result."""

    every: int = 100  # steps between two measurements; 0 = never
    images: int = 1024  # of the query split, unseen in training: half query the other half
    on_collapse: str = "warn"  # warn | stop
    tensorboard: bool = False  # write an event file too (extra `tensorboard`)


@dataclasses.dataclass(frozen=True)
class Eval:
    """What is embedded, and which images query which."""

    encoder: str = ""  # which of the method's encoders fills the index; "" = its first
    pool: str = "mean"  # tokens to descriptor: mean | mean_std | gem | attention
    k: int = 10
    query_split: str = "validation"
    gallery_split: str = "test"
    shared_places: bool = False  # let the same ground be in both of them, at other dates
    batch_size: int = 128


@dataclasses.dataclass(frozen=True)
class Export:
    """What the embedding files hold, and how many processes write them."""

    dtype: str = "float32"  # of the stored vectors: float32 | float16 | int8 | bits (their signs)
    thumbnails: int = 96  # pixels of the longer side; 0 = none
    processes: int = 1  # that embed side by side, where there is no accelerator
    part_rows: int = 65536  # images in a file
    licence: str = ""  # of the images, as SPDX names it; "" = not said


@dataclasses.dataclass(frozen=True)
class Index:
    """How the embeddings are searched; docs/search-engines.md says when which."""

    kind: str = "auto"  # auto (by size and machine) | exact | scann | device | int8 | bits | ...


@dataclasses.dataclass(frozen=True)
class Report:
    """What the page shows."""

    queries: int = 8  # with their hits
    map: str = "pca"  # of the embeddings: pca | umap (extra `umap`)
    points: int = 2000  # images on the map at most; 0 = no map


@dataclasses.dataclass(frozen=True)
class Config:
    """One run."""

    method: str = "rejepa"
    seed: int = 0  # parameters, masks and augmentation
    data: Data = Data()
    scenes: Scenes = Scenes()
    synthetic: Synthetic = Synthetic()
    prepare: Prepare = Prepare()
    augment: Augment = Augment()
    model: Model = Model()
    mask: Mask = Mask()
    target: Target = Target()
    loss: Loss = Loss()
    vicreg: Vicreg = Vicreg()
    mae: Mae = Mae()
    ema: Ema = Ema()
    optim: Optim = Optim()
    mesh: Mesh = Mesh()
    train: Train = Train()
    health: Health = Health()
    export: Export = Export()
    eval: Eval = Eval()
    index: Index = Index()
    report: Report = Report()


def base_config(preset: str = "rejepa") -> config_dict.ConfigDict:
    """Returns every default, changed by a preset, as a ConfigDict for a config file to change.

    Raises:
        ConfigError: there is no such preset.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset {preset!r}: choose one of {sorted(PRESETS)}")
    config = config_dict.ConfigDict(_with_placeholders(Config()))
    config.update_from_flattened_dict(PRESETS[preset])
    return config


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
