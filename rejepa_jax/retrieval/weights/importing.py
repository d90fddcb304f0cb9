"""A user's own weight file as an encoder bundle: read, adapted, described, published."""

import dataclasses
import pathlib

from rejepa_jax import artifacts
from rejepa_jax.data import published, sensors
from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import Encoder
from rejepa_jax.retrieval.encoder import Bundle, save_bundle
from rejepa_jax.retrieval.weights.adaptation import adapt
from rejepa_jax.retrieval.weights.torch_file import open_torch
from rejepa_jax.retrieval.weights.vit_file import read_vit
from rejepa_jax.retrieval.weights.weight_file import open_safetensors
from rejepa_jax.types import ConfigError, DataError

RGB = ("red", "green", "blue")


@dataclasses.dataclass(frozen=True)
class Import:
    """What a weight file does not say of itself, and what its encoder shall be used for."""

    encoder: str | None  # of several in the file; None = target_encoder
    heads: int | None  # None = one for 64 features
    file_bands: tuple[str, ...]  # names of the bands that it was trained on, in its order
    sensor: str
    bands: tuple[str, ...]  # of the sensor; () = all
    image_size: int | None  # that the encoder sees; None = the file's
    record_size: int | None  # of the images that are given to it; None = image_size
    mean: tuple[float, ...]  # of the bands, in the images' unit; () = published ones
    std: tuple[float, ...]
    pool: str


def import_weights(path: pathlib.Path, directory: pathlib.Path, wanted: Import) -> list[str]:
    """Writes the file's encoder as a bundle; returns what was taken, adapted and left out.

    Raises:
        DataError: it is not there, would have to be run, is damaged, or holds no ViT like ours.
        ConfigError: `wanted` contradicts the file or itself.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give a .safetensors file or a torch checkpoint")
    inputs = {"file": artifacts.sha256_file(path)}

    def build(partial: pathlib.Path) -> artifacts.Built:
        bundle, notes = read_bundle(path, wanted)
        save_bundle(bundle, partial)
        return artifacts.Built({"file": path.name, "notes": notes})

    manifest = artifacts.run_stage(directory, dataclasses.asdict(wanted), inputs, build)
    return manifest["info"]["notes"]


def read_bundle(path: pathlib.Path, wanted: Import) -> tuple[Bundle, list[str]]:
    """Reads and adapts the file's encoder; returns it with what was done."""
    is_safe = path.suffix == ".safetensors"
    file = open_safetensors(path) if is_safe else open_torch(path)
    read, notes = read_vit(file, wanted.encoder, wanted.heads)
    known = sensors.sensor_spec(wanted.sensor)
    bands = wanted.bands or known.band_names
    sensors.band_specs(wanted.sensor, bands)  # refuses a name that the sensor does not have
    encoder, more = _fit(read, path, bands, wanted)
    given, note = _standardisation(bands, wanted)
    size = wanted.record_size or encoder.spec.image_size
    bundle = Bundle(
        name="imported",
        encoder=encoder,
        preprocess=Preprocess(encoder.spec.image_size, {wanted.sensor: given}),
        sensor=wanted.sensor,
        record=Sensor(bands, known.dtype, size, size),
        pool=wanted.pool,
        step=0,
    )
    return bundle, [*notes, *more, note]


def _fit(
    encoder: Encoder, path: pathlib.Path, bands: tuple[str, ...], wanted: Import
) -> tuple[Encoder, list[str]]:
    """Adapts the encoder to the bands and the image size."""
    spec = encoder.spec
    file_bands = wanted.file_bands or (RGB if spec.bands == len(RGB) else ())
    if len(file_bands) != spec.bands:
        raise ConfigError(
            f"{path}: tensor 'patch_embed.proj.weight' has {spec.bands} bands, got "
            f"{len(file_bands)} names ({', '.join(file_bands)}); name them with --file_bands"
        )
    size = wanted.image_size or spec.image_size
    if size % spec.patch_size:
        raise ConfigError(
            f"--image_size {size}: tensor 'patch_embed.proj.weight' of {path} has patches of "
            f"{spec.patch_size} px; give a multiple"
        )
    positions = spec.positions if size == spec.image_size else "learned"
    fitting = dataclasses.replace(spec, bands=len(bands), image_size=size, positions=positions)
    return adapt(encoder, fitting, file_bands, bands, str(path))


def _standardisation(bands: tuple[str, ...], wanted: Import) -> tuple[SensorInput, str]:
    """Returns how pixels are standardised: as given, or as is the custom for the sensor."""
    mean, std, source = wanted.mean, wanted.std, "as given"
    if not mean and not std:
        if set(bands) <= set(RGB):
            mean, std = published.published_statistics("rgb", bands, "imagenet")
            source = "of ImageNet"  # what I-JEPA, MAE and most of timm standardise with
        else:
            mean, std = published.published_statistics(wanted.sensor, bands)
            source = published.STATISTICS[published.DEFAULTS[wanted.sensor]].source
    if not len(mean) == len(std) == len(bands) or min(std) <= 0:
        raise ConfigError(
            f"--mean {mean} --std {std}: expected one number a band ({', '.join(bands)}), "
            "std above 0; correct them"
        )
    given = SensorInput(tuple(range(len(bands))), mean, std, sensors.nodata(wanted.sensor))
    note = f"pixels: (x - mean) / std, mean {_short(mean)}, std {_short(std)}, {source}"
    return given, note


def _short(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
