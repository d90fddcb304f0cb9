"""What the files of a scene say of themselves: bands, pixel grid, type; before a pixel is read."""

import dataclasses
import math
import pathlib

import rasterio

from rejepa_jax.data.archives.scenes.raster_files import open_file
from rejepa_jax.data.archives.scenes.scene_files import Part, Scene
from rejepa_jax.data.archives.scenes.windows import data_bands
from rejepa_jax.data.examples import DTYPES
from rejepa_jax.data.sensors import SENSORS
from rejepa_jax.types import DataError

Kind = tuple[str, tuple[str, ...], str]  # sensor, names of the bands, dtype
OTHER = "image"  # of a sensor that no table knows
_RGB = SENSORS["rgb"].band_names


@dataclasses.dataclass(frozen=True)
class Header:
    """The pixel grid of a file."""

    crs: str  # "" = unknown
    transform: tuple[float, ...]  # affine a b c d e f; () = unknown
    height: int
    width: int

    @property
    def pixel(self) -> float:
        """The side of a pixel in units of the CRS; 1 where the place is unknown."""
        return math.hypot(self.transform[0], self.transform[3]) if self.transform else 1.0


@dataclasses.dataclass(frozen=True)
class Band:
    """Where one band of a scene is."""

    name: str
    file: str
    number: int  # in the file, from 1
    ratio: int  # side of its pixels in pixels of the finest band


@dataclasses.dataclass(frozen=True)
class Described:
    """A scene whose files have been opened."""

    scene: Scene
    sensor: str  # a key of SENSORS, or "image"
    bands: tuple[Band, ...]  # in the order of the records
    dtype: str
    grid: Header  # of the finest bands, as far as all bands reach
    mask_ratio: int  # as `Band.ratio`, of the mask; 0 = none

    @property
    def kind(self) -> Kind:
        """What has to be the same in all scenes of an archive."""
        return self.sensor, tuple(band.name for band in self.bands), self.dtype


def read_header(root: pathlib.Path, file: str) -> Header:
    """Reads a file's grid; raises a DataError if it does not open."""
    dataset = open_file(root, file)
    transform = () if dataset.transform.is_identity else tuple(dataset.transform)[:6]
    crs = dataset.crs.to_string() if dataset.crs else ""
    return Header(crs, transform, dataset.height, dataset.width)


def describe(
    root: pathlib.Path, scene: Scene, file_bands: tuple[str, ...], wanted: str
) -> Described:
    """Opens a scene's files; `wanted` is the sensor taken where the bands' names leave a choice.

    Raises:
        DataError: a file does not open, bands are not named, or do not lie on a common grid.
    """
    if not scene.parts:
        raise _bad(scene.id, "no band", "one at least whose name is told")
    headers = {part.file: read_header(root, part.file) for part in scene.parts}
    finest = min(headers.values(), key=lambda header: (not header.transform, header.pixel))
    ratios = {file: _ratio(file, header, finest) for file, header in headers.items()}
    mask_ratio = 0
    if scene.mask:
        headers[scene.mask] = read_header(root, scene.mask)
        mask_ratio = _ratio(scene.mask, headers[scene.mask], finest)
        ratios[scene.mask] = mask_ratio
    found: dict[str, Band] = {}
    for part in scene.parts:
        dataset = open_file(root, part.file)
        for number, name in name_bands(dataset, part, file_bands).items():
            if name in found:
                raise _bad(part.file, f"band {name} in {found[name].file} too", "each band once")
            found[name] = Band(name, part.file, number, ratios[part.file])
    dtypes = sorted({open_file(root, b.file).dtypes[b.number - 1] for b in found.values()})
    if len(dtypes) != 1 or dtypes[0] not in DTYPES:
        got = f"bands of {', '.join(dtypes)}"
        raise _bad(scene.id, got, f"all of one of {', '.join(DTYPES)}")
    wanted = OTHER if wanted == OTHER else scene.sensor or wanted
    sensor = choose_sensor(set(found), dtypes[0], wanted)
    order = SENSORS[sensor].band_names if sensor != OTHER else _order(scene, found, file_bands)
    return Described(
        scene=scene,
        sensor=sensor,
        bands=tuple(found[name] for name in order if name in found),
        dtype=dtypes[0],
        grid=dataclasses.replace(
            finest,
            height=min(header.height * ratios[file] for file, header in headers.items()),
            width=min(header.width * ratios[file] for file, header in headers.items()),
        ),
        mask_ratio=mask_ratio,
    )


def name_bands(
    dataset: rasterio.DatasetReader, part: Part, file_bands: tuple[str, ...]
) -> dict[int, str]:
    """Names a file's bands, by number, and leaves an alpha channel out.

    Metadata or the file's own name say which bands it holds, else `file_bands` do; descriptions in
    the file that use the same names say in which order. Without either the descriptions are the
    names, or red, green, blue where an 8-bit file declares such colours.

    Raises:
        DataError: nothing names them, or two sources contradict.
    """
    declared = part.bands or file_bands
    numbers = list(data_bands(dataset, len(declared)))
    texts = tuple(dataset.descriptions[number - 1] or "" for number in numbers)
    is_named = all(texts) and len(set(texts)) == len(texts)
    if is_named and (not declared or set(texts) == set(declared)):
        return dict(zip(numbers, texts, strict=True))
    colours = tuple(dataset.colorinterp[number - 1].name for number in numbers)
    if not declared and colours == _RGB and set(dataset.dtypes) == {"uint8"}:
        declared = _RGB
    tables = [spec.band_names for spec in SENSORS.values() if set(declared) <= {*spec.band_names}]
    alike = {*declared, *(name for table in tables for name in table)}
    if len(declared) != len(numbers) or not alike.isdisjoint(texts):
        raise DataError(
            f"scene file {part.file}: got {len(numbers)} bands, described as {texts}, expected "
            f"{', '.join(declared) or 'names for them'}; give the order of the bands with "
            "--config.data.file_bands=NAME,..."
        )
    return dict(zip(numbers, declared, strict=True))


def choose_sensor(names: set[str], dtype: str, wanted: str) -> str:
    """Finds the sensor whose table has these bands in this type; `wanted` if it is one of several.

    A picture has all three colours; of other sensors bands may be missing.
    """
    fitting = [
        key
        for key, spec in SENSORS.items()
        if names <= set(spec.band_names)
        and dtype == spec.dtype
        and (key != "rgb" or names == set(_RGB))
    ]
    if wanted == OTHER or not fitting:
        return OTHER
    return wanted if wanted in fitting else fitting[0]


def _order(scene: Scene, found: dict[str, Band], file_bands: tuple[str, ...]) -> list[str]:
    if set(file_bands) == set(found):
        return list(file_bands)
    return list(found) if len(scene.parts) == 1 else sorted(found)


def _ratio(file: str, header: Header, finest: Header) -> int:
    """Says how many of the finest pixels fit along one of this file; refuses another grid."""
    ratio = max(1, round(header.pixel / finest.pixel))
    near = 1e-3 * finest.pixel
    expected = [value * (1 if i in (2, 5) else ratio) for i, value in enumerate(finest.transform)]
    is_same = header.crs == finest.crs and len(header.transform) == len(expected)
    if not is_same or not all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=near)
        for a, b in zip(header.transform, expected, strict=True)
    ):
        raise _bad(
            file,
            f"the grid {header.crs or 'without CRS'} {header.transform}",
            f"the finest band's, {finest.crs or 'without CRS'} {finest.transform}, or a multiple",
        )
    if not header.transform and (header.height, header.width) != (finest.height, finest.width):
        got = f"{header.height}x{header.width} pixels without a place"
        raise _bad(file, got, f"{finest.height}x{finest.width} as the others have")
    return ratio


def _bad(where: str, got: str, expected: str) -> DataError:
    return DataError(f"scene file {where}: got {got}, expected {expected}; correct or remove it")
