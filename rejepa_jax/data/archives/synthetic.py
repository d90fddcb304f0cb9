"""Writes the embedded default archive: invented scenes, laid out exactly as BigEarthNet v2.

Whatever reads the real archive reads this one. The pixels are drawn, not measured: the archive
lets every stage run without a download and says nothing about results on real images. Patch i
depends on the seed and i alone, so any number of workers writes the same bytes.
"""

import concurrent.futures
import functools
import json
import multiprocessing
import pathlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
from absl import logging

from rejepa_jax.data.archives.bigearthnet.archive import CLASSES, FLAGGED, METADATA
from rejepa_jax.data.scenes import drawing
from rejepa_jax.data.scenes.places import PATCH_METRES, SPLITS, Place, capacity, place_of
from rejepa_jax.types import ConfigError

GENERATOR_VERSION = "1"

_SCHEMA = pa.schema(
    {
        "patch_id": pa.string(),
        "labels": pa.list_(pa.string()),
        "split": pa.string(),
        "country": pa.string(),
        "s1_name": pa.string(),
        "s2v1_name": pa.string(),
        "contains_seasonal_snow": pa.bool_(),
        "contains_cloud_or_shadow": pa.bool_(),
    }
)


def write_archive(
    directory: pathlib.Path, *, seed: int, counts: dict[str, int], workers: int
) -> dict:
    """Writes an archive into a directory, over what an interrupted call left; metadata comes last.

    Args:
        directory: the archive's root.
        seed: of every random number.
        counts: patches of each split (`train`, `validation`, `test`); a split may be missing.
        workers: processes that draw and write; 1 works in this process.

    Returns:
        A summary: `name`, `version`, `seed`, `counts`, and `labels`, the number of patches that
        each class occurs in.
    """
    _check(seed, counts, workers)
    directory.mkdir(parents=True, exist_ok=True)
    places = [(split, number) for split in SPLITS for number in range(counts.get(split, 0))]
    splits, numbers = zip(*places, strict=True)
    write = functools.partial(_write_patch, directory, seed)
    if workers == 1:
        rows = list(map(write, range(len(places)), splits, numbers))
    else:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
            rows = list(pool.map(write, range(len(places)), splits, numbers, chunksize=8))
    logging.info("synthetic archive: wrote %d patches to %s", len(rows), directory)
    return _write_metadata(directory, rows, seed, counts)


def _check(seed: int, counts: dict[str, int], workers: int) -> None:
    """Refuses what cannot be written, before anything is."""
    for split, count in counts.items():
        if split not in SPLITS or not 0 <= count <= capacity(split):
            raise ConfigError(
                f"synthetic archive: got {count} patches for split {split!r}, expected splits "
                f"{', '.join(SPLITS)} of 0 to {min(map(capacity, SPLITS))} patches; change counts"
            )
    if not sum(counts.values()):
        raise ConfigError(f"synthetic archive: got counts {counts}, expected at least one patch")
    if seed < 0 or workers < 1:
        raise ConfigError(
            f"synthetic archive: got seed {seed} and {workers} workers, expected a seed of at "
            "least 0 and at least 1 worker; change them"
        )


def _write_patch(
    directory: pathlib.Path, seed: int, index: int, split: str, number: int
) -> dict[str, object]:
    """Draws patch `index`, number `number` of its split, writes its bands, returns its row."""
    rng = drawing.stream(seed, index, drawing.Purpose.PLACE)
    place = place_of(split, number, int(rng.integers(0, 1 << 16)))
    scene = drawing.draw_scene(seed, index, str(rng.choice(place.tile.landscapes)))
    conditions = drawing.scene_conditions(seed, index, place.day_of_year)
    images = drawing.render(seed, index, scene, conditions)
    s2 = directory / "BigEarthNet-S2" / place.s2_product / place.patch_id
    s1 = directory / "BigEarthNet-S1" / place.s1_product / place.s1_name
    for folder in (s1, s2):
        folder.mkdir(parents=True, exist_ok=True)
    for band, image in images.items():
        folder = s1 if band in ("VV", "VH") else s2
        _write_band(folder / f"{folder.name}_{band}.tif", image, place)
    return {
        "patch_id": place.patch_id,
        "labels": [CLASSES[label] for label in scene.labels],
        "split": split,
        "country": place.tile.country,
        "s1_name": place.s1_name,
        "s2v1_name": place.s2v1_name,
        "contains_seasonal_snow": False,
        "contains_cloud_or_shadow": False,
    }


def _write_band(path: pathlib.Path, image: np.ndarray, place: Place) -> None:
    """Writes one band as an uncompressed GeoTIFF over the patch's 1,200 m."""
    left, top = place.corner
    metres = PATCH_METRES / image.shape[0]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=image.shape[0],
        width=image.shape[1],
        count=1,
        dtype=image.dtype.name,
        crs=place.crs,
        transform=rasterio.Affine(metres, 0, left, 0, -metres, top),
    ) as dataset:
        dataset.write(image, 1)


def _write_metadata(
    directory: pathlib.Path, rows: list[dict], seed: int, counts: dict[str, int]
) -> dict:
    """Writes the two published tables and `generator.json`; returns the summary."""
    table = pa.Table.from_pylist(rows, _SCHEMA)
    pq.write_table(table, directory / METADATA)
    pq.write_table(_SCHEMA.empty_table(), directory / FLAGGED)
    generator = {
        "name": "synthetic",
        "version": GENERATOR_VERSION,
        "seed": seed,
        "counts": {split: counts.get(split, 0) for split in SPLITS},
    }
    text = json.dumps(generator, indent=2) + "\n"
    (directory / "generator.json").write_text(text, encoding="utf-8")
    histogram = Counter(label for row in rows for label in row["labels"])
    return generator | {"labels": {name: histogram[name] for name in CLASSES}}
