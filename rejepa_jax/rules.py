"""What must hold of settings and between them, whatever the data; each refusal names the key."""

from typing import Any

from rejepa_jax.config import Config
from rejepa_jax.types import ConfigError

SIZES = {  # embed_dim, depth, num_heads: the ViT family (Dosovitskiy et al. 2021; Touvron 2021)
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
ENCODERS = {  # what of each method can embed an image, its default first
    "rejepa": ("target", "context"),
    "mae": ("encoder",),
}
CHOICES = {
    "method": tuple(ENCODERS),
    "data.split_by": ("archive", "location", "block"),
    "data.check": ("every", "first"),
    "scenes.labels": ("none", "folder"),
    "data.normalise": ("standardise", "clip", "min_max"),
    "model.size": tuple(SIZES),
    "model.dtype": ("auto", "float32", "bfloat16"),
    "model.positions": ("fixed", "learned"),
    "model.remat": ("none", "dots", "block"),
    "model.predictor_mode": ("joint", "per_group", "per_token"),
    "model.query_attention": ("joint", "independent"),
    "mask.strategy": ("random_disjoint", "multiblock", "multimask"),
    "mask.disjoint": ("partition", "context_minus_target", "none"),
    "mask.block_law": ("fixed", "faithful"),
    "target.input": ("full", "target_patches"),
    "target.norm": ("layer", "none", "batch"),
    "loss.type": ("l2", "smooth_l1", "l1"),
    "loss.reduction": ("mean", "sum_dim"),
    "vicreg.invariance": ("none", "pred_target", "two_view"),
    "vicreg.pool": ("mean", "mean_std"),
    "vicreg.stats": ("global", "per_device"),
    "ema.schedule": ("linear", "constant"),
    "optim.weight_decay_schedule": ("cosine", "linear"),
    "health.on_collapse": ("warn", "stop"),
    "eval.pool": ("mean", "mean_std", "gem", "attention"),
    "export.dtype": ("float32", "float16", "int8", "bits"),
    "report.map": ("pca", "umap"),
    "index.kind": ("auto", "exact", "scann", "device", "int8", "bits", "hnsw", "faiss"),
}
FEATURES = ("context", "prediction", "context_tokens")  # that VICReg can act on
POSITIVE = (
    *("prepare.shard_records", "train.steps", "train.batch_size", "train.log_every"),
    *("train.save_every", "eval.k", "eval.batch_size", "model.patch_size"),
    *("export.processes", "export.part_rows"),
    *("train.accumulate", "mesh.fsdp", "mesh.tensor"),
    *("mask.num_target_groups", "mae.decoder_depth", "scenes.patch"),
)
LARGEST_MAP = 5000  # images
SIZED = ("embed_dim", "depth", "num_heads", "predictor_dim", "predictor_depth", "predictor_heads")
SHARES = ("augment.crop_scale", "mask.target_scale", "mask.context_scale")  # 0 < low <= high <= 1
RANGES = ("augment.crop_ratio", "mask.target_aspect")  # 0 < low <= high


def check_choices(config: Config) -> None:
    """Checks that a setting with named values has one of them.

    Raises:
        ConfigError: naming the key and the choices.
    """
    for path, choices in CHOICES.items():
        value = _look_up(config, path)
        _require(value in choices, f"config.{path} = {value!r}: choose one of {list(choices)}")
    names = {name for encoders in ENCODERS.values() for name in encoders}
    chosen = config.eval.encoder  # one of another method: `resolve` takes this one's first
    _require(
        not chosen or chosen in names,
        f"config.eval.encoder = {chosen!r}: choose one of {sorted(names)}",
    )


def check_rules(config: Config) -> None:
    """Checks a config whose open settings are filled in.

    Raises:
        ConfigError: naming the keys to change.
    """
    for path in POSITIVE:
        value = _look_up(config, path)
        _require(value > 0, f"config.{path} = {value}: must be at least 1")
    for path in SHARES:
        low, high = _look_up(config, path)
        _require(0 < low <= high <= 1, f"config.{path} = {(low, high)}: 0 < low <= high <= 1")
    for path in RANGES:
        low, high = _look_up(config, path)
        _require(0 < low <= high, f"config.{path} = {(low, high)}: 0 < low <= high")
    _check_data(config)
    _check_model(config)
    _check_sharing(config)
    if config.method == "mae":
        _check_mae(config)
    else:
        _check_masks(config)
        _check_vicreg(config)
    _check_lengths(config)


def _check_model(config: Config) -> None:
    """Checks that patches tile the image and that widths divide as heads and positions need it."""
    size, patch = config.data.image_size, config.model.patch_size
    _require(
        size % patch == 0,
        f"config.data.image_size = {size} must be a multiple of config.model.patch_size = {patch}",
    )
    model = config.model
    for name in SIZED:
        value = getattr(model, name)
        _require(value > 0, f"config.model.{name} = {value}: must be at least 1")
    for name, heads in (("embed_dim", "num_heads"), ("predictor_dim", "predictor_heads")):
        _check_width(f"model.{name}", getattr(model, name), heads, getattr(model, heads))


def _check_width(path: str, width: int, name: str, heads: int) -> None:
    _require(
        width % heads == 0 and width % 4 == 0,
        f"config.{path} = {width} must be a multiple of 4 and of {name} = {heads}",
    )


def _check_sharing(config: Config) -> None:
    """Checks what a batch and a layer are divided by, as far as it needs no device."""
    data, tensor, train = config.mesh.data, config.mesh.tensor, config.train
    heads = _look_up(config, "model.num_heads")
    _require(data == -1 or data > 0, f"config.mesh.data = {data}: at least 1, or -1 (the rest)")
    _require(
        heads % tensor == 0,
        f"config.mesh.tensor = {tensor} must divide config.model.num_heads = {heads}",
    )
    _require(
        train.batch_size % train.accumulate == 0,
        f"config.train.accumulate = {train.accumulate} must divide config.train.batch_size = "
        f"{train.batch_size}",
    )
    for path in ("train.keep", "train.keep_every", "train.hang_timeout", "data.prefetch"):
        value = _look_up(config, path)
        _require(value >= 0, f"config.{path} = {value}: 0 or more")


def _check_mae(config: Config) -> None:
    mae, tokens = config.mae, _tokens(config)
    _check_width("mae.decoder_dim", mae.decoder_dim, "decoder_heads", mae.decoder_heads)
    hidden = int(mae.mask_ratio * tokens)
    _require(
        0 < hidden < tokens,
        f"config.mae.mask_ratio = {mae.mask_ratio} hides {hidden} of {tokens} tokens; at least one "
        "must be hidden and one be seen",
    )


def _check_masks(config: Config) -> None:
    mask, tokens = config.mask, _tokens(config)
    ratio = mask.context_ratio
    _require(
        ratio is None or 1 <= int(ratio * tokens) <= tokens,
        f"config.mask.context_ratio = {ratio} of {tokens} tokens: at least one, at most all",
    )
    if mask.strategy == "multimask":
        _require(
            len(mask.multimask) > 0 and all(n >= 1 and 0 < s <= 1 for n, s in mask.multimask),
            f"config.mask.multimask = {mask.multimask}: give pairs of a number of blocks, at least "
            "1, and their area, at most 1",
        )
    if mask.strategy != "random_disjoint":
        return
    targets = int(mask.target_ratio * tokens)
    _require(
        0 < targets < tokens,
        f"config.mask.target_ratio = {mask.target_ratio} of {tokens} tokens gives {targets} "
        "targets; at least one target and one context token are needed",
    )
    _require(
        targets % mask.num_target_groups == 0,
        f"config.mask.num_target_groups = {mask.num_target_groups} must divide the {targets} "
        "targets",
    )
    context = tokens - targets if ratio is None else int(ratio * tokens)
    _require(
        mask.disjoint != "partition" or context + targets <= tokens,
        f"config.mask.context_ratio = {ratio} and target_ratio = {mask.target_ratio} take "
        f"{context} + {targets} of {tokens} tokens; lower one, or set mask.disjoint",
    )


def _check_vicreg(config: Config) -> None:
    vicreg = config.vicreg
    _require(
        len(vicreg.on) > 0 and set(vicreg.on) <= set(FEATURES),
        f"config.vicreg.on = {vicreg.on}: choose one or more of {list(FEATURES)}",
    )
    _require(
        all(width > 0 for width in vicreg.expander),
        f"config.vicreg.expander = {vicreg.expander}: every width must be at least 1",
    )
    _require(
        not vicreg.expander or vicreg.pool == "mean" or "context_tokens" not in vicreg.on,
        "config.vicreg.expander takes features of one width: not context_tokens beside pooled "
        "features of twice that (vicreg.pool = mean_std)",
    )
    _require(
        config.train.batch_size > 1,
        "config.train.batch_size = 1: the variance terms need at least 2",
    )


def _check_data(config: Config) -> None:
    data = config.data
    _require(
        data.normalise != "min_max" or data.statistics == "records",
        f"config.data.normalise = min_max with config.data.statistics = {data.statistics!r}: only "
        "the records' own minimum and maximum are known; set it to records",
    )
    _require(
        min(data.split_shares) >= 0 and abs(sum(data.split_shares) - 1) < 1e-6,
        f"config.data.split_shares = {data.split_shares}: shares of train, validation and test, "
        "none below 0, that make 1 together",
    )
    _require(data.block_km > 0, f"config.data.block_km = {data.block_km}: must be above 0")
    gap = data.block_gap_km
    _require(
        0 <= gap <= data.block_km,
        f"config.data.block_gap_km = {gap}: 0 to config.data.block_km = {data.block_km}",
    )
    scenes = config.scenes
    _require(scenes.stride >= 0, f"config.scenes.stride = {scenes.stride}: 0 (= patch) or more")
    _require(
        0 <= scenes.min_valid <= 1,
        f"config.scenes.min_valid = {scenes.min_valid}: a share between 0 and 1",
    )


def _check_lengths(config: Config) -> None:
    _require(
        config.eval.query_split != config.eval.gallery_split,
        f"config.eval.query_split and config.eval.gallery_split are both "
        f"{config.eval.query_split!r}: every query would find itself; choose two splits",
    )
    _require(
        config.data.train_split != config.eval.query_split,
        f"config.data.train_split and config.eval.query_split are both "
        f"{config.eval.query_split!r}: queries would have been seen in training; choose two splits",
    )
    _require(
        0 <= config.optim.warmup_steps <= config.train.steps,
        f"config.optim.warmup_steps = {config.optim.warmup_steps} must lie in 0 .. "
        f"config.train.steps = {config.train.steps}",
    )
    health = config.health
    _require(health.every >= 0, f"config.health.every = {health.every}: 0 (never) or more")
    pictures, points = config.export.thumbnails, config.report.points
    _require(pictures >= 0, f"config.export.thumbnails = {pictures}: 0 (none) or more")
    _require(
        0 <= points <= LARGEST_MAP,
        f"config.report.points = {points}: 0 (no map) to {LARGEST_MAP}, as all pairs are compared",
    )
    _require(
        health.every == 0 or health.images >= 4,
        f"config.health.images = {health.images}: at least 4, half of them query the other half",
    )


def _tokens(config: Config) -> int:
    return (config.data.image_size // config.model.patch_size) ** 2


def _look_up(config: Config, path: str) -> Any:
    group, _, key = path.rpartition(".")
    return getattr(getattr(config, group) if group else config, key)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
