"""From settings and records to the preprocessing of a run."""

from rejepa_jax.config import Data
from rejepa_jax.data import published, sensors
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.data.preprocess import STD_FLOOR, Preprocess, SensorInput
from rejepa_jax.types import ConfigError

CLIPS = {"standardise": None, "clip": 2.0, "min_max": 1.0}  # in units of what is divided by


def make_preprocess(records: RecordSet, data: Data) -> Preprocess:
    """Chooses the bands by name and what brings them to one scale.

    `config.data.statistics` says whose statistics, `config.data.normalise` what is done with them:
    `standardise` to zero mean and unit spread; `clip` at two standard deviations from the mean and
    bring that range to 0..1, as SatMAE does (without its rounding to 8 bits); `min_max` brings the
    training split's own range to 0..1.

    Raises:
        ConfigError: the records have no such sensor or band, or no published figures are known.
    """
    known = records.schema.sensors
    if data.sensor not in known:
        raise ConfigError(
            f"config.data.sensor = {data.sensor!r}: the records hold {sorted(known)}; choose one"
        )
    bands = known[data.sensor].bands
    chosen = data.bands or bands
    missing = [band for band in chosen if band not in bands]
    if missing:
        raise ConfigError(
            f"config.data.bands: {missing} not among the {data.sensor} bands of the records, "
            f"{list(bands)}"
        )
    places = tuple(bands.index(band) for band in chosen)
    mean, std = _centre_and_spread(records, data, chosen, places)
    std = tuple(max(value, STD_FLOOR) for value in std)
    clip = CLIPS[data.normalise]
    given = SensorInput(places, mean, std, sensors.nodata(data.sensor), clip)
    return Preprocess(data.image_size, {data.sensor: given})


def _centre_and_spread(
    records: RecordSet, data: Data, bands: tuple[str, ...], places: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gives what is subtracted from each band and what it is divided by; () = each image's own."""
    if data.statistics == "image":
        return (), ()
    if data.statistics != "records":
        return published.published_statistics(data.sensor, bands, data.statistics)
    measured = records.statistics(data.train_split, data.sensor)
    names = ("min", "max") if data.normalise == "min_max" else ("mean", "std")
    first, second = (tuple(measured[name][place] for place in places) for name in names)
    if data.normalise != "min_max":
        return first, second
    pairs = list(zip(first, second, strict=True))
    return tuple((low + high) / 2 for low, high in pairs), tuple((b - a) / 2 for a, b in pairs)
