"""What fed.py and embed.py measure: models at some sizes, and records of noise for them to read."""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from rejepa_jax import artifacts
from rejepa_jax.config import Config, base_config
from rejepa_jax.data import examples, pipeline, statistics, tfrecord
from rejepa_jax.data.prepare import SCHEMA
from rejepa_jax.data.sensors import SENSORS, nodata
from rejepa_jax.resolve import resolve

RGB = SENSORS["rgb"].band_names
BEN_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
DRAWN, SHARD = 64, 1024  # different images, which the records repeat; records in a shard


@dataclasses.dataclass(frozen=True)
class Size:
    """A model and the images that it sees."""

    sensor: str
    bands: tuple[str, ...]
    image_size: int
    patch_size: int
    batch_size: int
    model: dict[str, Any] = dataclasses.field(default_factory=dict)

    def config(self, batch_size: int) -> Config:
        """The paper's settings at this size."""
        config = base_config()
        config.data.sensor, config.data.image_size = self.sensor, self.image_size
        config.model.patch_size, config.train.batch_size = self.patch_size, batch_size
        config.model.update(self.model)
        return resolve(config)


TINY = {"size": "tiny", "predictor_dim": 96, "predictor_depth": 4}
TOY = {"embed_dim": 16, "depth": 1, "num_heads": 2, "predictor_dim": 8, "predictor_depth": 1}
PRESETS = {
    "vit_b16_224": Size("rgb", RGB, 224, 16, 512),
    "vit_b15_120x10": Size("s2", BEN_BANDS, 120, 15, 512),
    "tiny_120x10": Size("s2", BEN_BANDS, 120, 15, 32, TINY),
    "toy": Size("rgb", RGB, 16, 8, 16, TOY),
}


def write_records(directory: pathlib.Path, size: Size, count: int) -> pipeline.RecordSet:
    """Writes a training split as the prepare stage would; 64 images, over and over."""
    kind = SENSORS[size.sensor]
    sensor = examples.Sensor(size.bands, kind.dtype, size.image_size, size.image_size)
    schema = examples.Schema("noise", {size.sensor: sensor}, ())
    find = functools.partial(examples.find_images, schema=schema)
    high = min(np.iinfo(kind.dtype).max, 4000)
    shape = (DRAWN, *sensor.shape)
    images = np.random.default_rng(0).integers(1, high, shape, kind.dtype, endpoint=True)

    def record(row: int) -> bytes:
        name, image = f"noise_{row:07d}", {size.sensor: images[row % DRAWN]}
        return examples.encode(examples.Example(name, image, (), name), schema)

    def build(partial: pathlib.Path) -> artifacts.Built:
        shards, hashes, num_shards = [], {}, -(-count // SHARD)
        for shard in range(num_shards):
            name = examples.shard_name("noise", "train", shard, num_shards)
            rows = range(shard * SHARD, min(count, (shard + 1) * SHARD))
            info = tfrecord.write_shard(partial / name, map(record, rows), find)
            shards.append({"file": name, "records": info.records})
            hashes[name] = info.sha256
        sums = [statistics.band_sums(image, nodata(size.sensor)) for image in images[:8]]
        measured = functools.reduce(statistics.BandSums.plus, sums).statistics()
        split = {"shards": shards, "records": count, "statistics": {size.sensor: measured}}
        artifacts.write_json(partial / SCHEMA, schema.to_json())
        return artifacts.Built({"splits": {"train": split}}, hashes)

    artifacts.run_stage(directory / "records", {}, {}, build)
    return pipeline.open_records(directory / "records")
