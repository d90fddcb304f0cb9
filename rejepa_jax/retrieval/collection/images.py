"""Image files as rows to add: found, read, embedded, with what they say of their place and time."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rejepa_jax.console import Progress
from rejepa_jax.data.archives import rasters
from rejepa_jax.data.archives.bigearthnet.names import acquired
from rejepa_jax.data.archives.footprints import footprint
from rejepa_jax.data.sensors import SENSORS
from rejepa_jax.retrieval import query_images
from rejepa_jax.retrieval.collection.parts import PART_ROWS, Rows
from rejepa_jax.retrieval.embeddings import making, thumbnails
from rejepa_jax.retrieval.embeddings.schema import EmbeddingPart
from rejepa_jax.retrieval.encoder import Bundle, Embedder
from rejepa_jax.retrieval.queries import Image
from rejepa_jax.types import DataError

ENDINGS = (*rasters.PICTURES, *rasters.GEOTIFFS)
LONGEST = 96  # pixels of a picture
GRIDS = {"s2": "B02", "s1": "VV"}  # the band of a BigEarthNet patch that has its grid
BANDS = tuple(f"_{band}.tif" for sensor in GRIDS for band in SENSORS[sensor].band_names)


class Found(NamedTuple):
    """An image file, or the folder of a BigEarthNet patch, and its id to be."""

    id: str
    path: Path


def find_images(places: Sequence[Path]) -> list[Found]:
    """Lists images: the files named, and those in folders named, as deep as they lie.

    The id of a file is its name, in a folder its path from there; that of a patch is its folder's
    name.

    Raises:
      DataError: there is none.
    """
    found = []
    for place in places:
        if place.is_dir():
            found += list(_walk(place))
        else:
            found.append(Found(place.name, place))
    if not found:
        raise DataError(
            f"{', '.join(map(str, places))}: got no image, expected files with the endings "
            f"{', '.join(ENDINGS)}, or BigEarthNet patches; name others"
        )
    return found


def _walk(top: Path) -> Iterator[Found]:
    for name, folders, files in os.walk(top):
        folders.sort()
        folder = Path(name)
        if any(file.endswith(BANDS) for file in files):
            yield Found(folder.name, folder)
            folders.clear()
            continue
        for file in sorted(files):
            if file.lower().endswith(ENDINGS) and not file.startswith("."):
                path = folder / file
                yield Found(path.relative_to(top).as_posix(), path)


def embed_images(
    bundle: Bundle, found: Sequence[Found], labels: Sequence[str], facts: dict[str, str]
) -> Iterator[Rows]:
    """Yields parts of these images, as a query by them would embed them; `facts` go for all.

    Raises:
      ConfigError: an image has other bands or another dtype than the encoder's.
      DataError: one cannot be read, or holds no measurement.
    """
    embedder = Embedder(bundle)
    progress = Progress(f"embed ({bundle.name})", len(found), "images")
    for first in range(0, len(found), PART_ROWS):
        part = found[first : first + PART_ROWS]
        known, vectors, pictures = [], [], []
        for start in range(0, len(part), query_images.AT_ONCE):
            read = [_read(each, bundle) for each in part[start : start + query_images.AT_ONCE]]
            vectors.append(
                query_images.embed_each(embedder, np.stack([image for image, _ in read]))
            )
            pictures += [thumbnails.webp(image, bundle.record.bands, LONGEST) for image, _ in read]
            known += [fact | facts for _, fact in read]
            progress.advance(len(read))
        rows = EmbeddingPart(
            first_row=0,
            ids=[each.id for each in part],
            vectors=np.concatenate(vectors),
            sensor=[bundle.sensor] * len(part),
            labels=[list(labels)] * len(part),
            **{name: [fact[name] for fact in known] for name in known[0]},
        )
        yield Rows(rows, pictures.__getitem__)


def _read(found: Found, bundle: Bundle) -> tuple[Image, dict[str, Any]]:
    """Returns an image as the encoder takes it, and what is known of its place and time."""
    name, moment = str(found.path), ""
    if found.path.is_dir():
        image = query_images.read_image(found.path, bundle)
        (band,) = found.path.glob(f"*_{GRIDS[bundle.sensor]}.tif")
        where, moment = rasters.read_raster(band.read_bytes(), str(band)), acquired(band.stem)
    else:
        where = rasters.read_raster(found.path.read_bytes(), name)
        image = where.array
        query_images.check_image(image, bundle, name)
    fitted = query_images.patches(image, bundle, "resize", name)[0][0]
    if image.shape != fitted.shape:  # moved to the central square, as the pixels are
        where = rasters.fit(dataclasses.replace(where, array=image[..., :1]), bundle.record.height)
    shape, given = fitted.shape[:2], bundle.preprocess.inputs[bundle.sensor]
    return fitted, {
        "geometry": footprint(where.crs, where.transform, *shape),
        "proj_code": where.crs,
        "proj_transform": where.transform,
        "proj_shape": shape if where.transform else (),
        "datetime": moment,
        "source_uri": name,
        "valid_fraction": float(making.valid_fraction(fitted[None], given)[0]),
    }
