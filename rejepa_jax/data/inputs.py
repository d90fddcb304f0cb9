"""From settings and records to the preprocessing of a run."""

from rejepa_jax.config import Data
from rejepa_jax.data import sensors
from rejepa_jax.data.pipeline import RecordSet
from rejepa_jax.data.preprocess import STD_FLOOR, Preprocess, SensorInput
from rejepa_jax.types import ConfigError


def make_preprocess(records: RecordSet, data: Data) -> Preprocess:
    """Chooses the bands by name and what standardises them: `config.data.statistics` says which.

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
    if data.statistics == "image":
        mean, std = (), ()
    elif data.statistics == "published":
        mean, std = sensors.published_statistics(data.sensor, chosen)
    else:
        measured = records.statistics(data.train_split, data.sensor)
        mean, std = (tuple(measured[name][place] for place in places) for name in ("mean", "std"))
    std = tuple(max(value, STD_FLOOR) for value in std)
    given = SensorInput(places, mean, std, sensors.nodata(data.sensor))
    return Preprocess(data.image_size, {data.sensor: given})
