"""Scenes in a folder, told by the names of their files.

<scene>.tif                               one file with all bands
<scene>_B02.tif, <scene>_B03_10m.jp2      one file a band; of several sizes the finest counts
<scene>/B02.tif                           the same, named by the folder
S2<product>.SAFE/.../IMG_DATA/...         Sentinel-2 as distributed; named by the product
"""

import collections
import dataclasses
import datetime
import pathlib
import re
from collections.abc import Iterable

from rejepa_jax.data.archives.files import ArchiveFiles
from rejepa_jax.data.archives.scenes.raster_files import ENDINGS
from rejepa_jax.data.sensors import SENSORS
from rejepa_jax.types import DataError

BANDS = tuple(dict.fromkeys(name for spec in SENSORS.values() for name in spec.band_names))
LEVELS = {"1C": "s2_l1c", "2A": "s2"}  # Sentinel-2's processing levels -> our sensors
S2_OFFSET = -1000  # of the stored values since processing baseline 04.00, RADIO/BOA_ADD_OFFSET
_PRODUCT = re.compile(r"S2[A-Z]_MSIL(?P<level>1C|2A)_(?P<time>\d{8}T\d{6})_N(?P<baseline>\d{4})_")
_SAFE = re.compile(r"(^|/)S2[^/]*\.SAFE$")
_TIME = re.compile(r"(?<!\d)(\d{8})(?:T(\d{6}))?(?!\d)")


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of a scene."""

    file: str  # its name in the archive, or its address
    bands: tuple[str, ...] = ()  # by number; () = the file itself has to name them


@dataclasses.dataclass(frozen=True)
class Scene:
    """What names and metadata say of a scene before a file is opened."""

    id: str
    parts: tuple[Part, ...]
    mask: str = ""  # the file that says which pixels are usable
    datetime: str = ""  # ISO 8601, UTC; "" = not said
    sensor: str = ""  # which of ours took it; "" = not said
    offset: int = 0  # to be added to the stored values
    folder: str = ""  # the name of the folder it lies in


def find_scenes(files: ArchiveFiles, mask: str, file_bands: tuple[str, ...]) -> list[Scene]:
    """Lists the scenes of a folder, by id.

    `mask` is the ending that makes `<scene>` the name of its mask file; `file_bands` are names of
    bands that files can end with, beside those of `SENSORS`.

    Raises:
        DataError: a band or a mask is there twice.
    """
    ending = _ending((*file_bands, *BANDS))
    bands: dict[tuple[str, str], dict[str, list[tuple[int, str]]]] = collections.defaultdict(dict)
    whole, masks = {}, {}
    for name in files.names():
        home, stem = _split(name)
        found = ending.fullmatch(stem)
        if mask and name.endswith(mask):
            _put(masks, (home, pathlib.PurePosixPath(name).name.removesuffix(mask)), name)
        elif not name.lower().endswith(ENDINGS) or (_is_safe(home) and not _is_band(name, found)):
            continue
        elif found:
            band = _as_written(found["band"], (*file_bands, *BANDS))
            size = int(found["metres"] or 0)
            bands[home, found["scene"] or ""].setdefault(band, []).append((size, name))
        else:
            _put(whole, (home, stem), name)
    scenes = [_scene(key, [Part(name)], masks.get(key, "")) for key, name in whole.items()]
    for key, by_band in bands.items():
        parts = [Part(_finest(sizes), (band,)) for band, sizes in by_band.items()]
        scenes.append(_scene(key, parts, masks.get(key, "")))
    return sorted(scenes, key=lambda scene: scene.id)


def time_in(name: str) -> str:
    """Reads a time out of a name that holds exactly one, as 20170613T101031 or 20170613."""
    found = {match.groups() for match in _TIME.finditer(name)}
    times = set()
    for day, clock in found:
        try:
            time = datetime.datetime.strptime(day + (clock or "000000"), "%Y%m%d%H%M%S")
        except ValueError:
            continue
        if 1972 <= time.year <= 2100:  # from the first Landsat on; other numbers have 8 digits too
            times.add(time)
    return f"{times.pop().isoformat()}Z" if len(times) == 1 else ""


def _scene(key: tuple[str, str], found: Iterable[Part], mask: str) -> Scene:
    home, prefix = key
    parts = tuple(sorted(found, key=lambda part: part.file))
    folder = pathlib.PurePosixPath(home)
    if not _is_safe(home):
        name = str(folder / prefix) if home != "." or prefix else "scene"
        within = folder if prefix else folder.parent
        return Scene(name, parts, mask, time_in(prefix or folder.name), folder=within.name)
    product = _PRODUCT.match(folder.name)
    name, within = folder.name[: -len(".SAFE")], folder.parent.name
    if not product:
        return Scene(name, parts, mask, folder=within)
    return Scene(
        name,
        parts,
        mask,
        datetime=time_in(product["time"]),
        sensor=LEVELS[product["level"]],
        offset=S2_OFFSET if product["baseline"] >= "0400" else 0,
        folder=within,
    )


def _split(name: str) -> tuple[str, str]:
    """Gives the folder that makes a scene, which is the .SAFE if there is one, and the stem."""
    path = pathlib.PurePosixPath(name)
    for folder in path.parents:
        if _is_safe(str(folder)):
            return str(folder), path.stem
    return str(path.parent), path.stem


def _is_safe(folder: str) -> bool:
    return _SAFE.search(folder) is not None


def _is_band(name: str, found: re.Match[str] | None) -> bool:
    """Whether a file of a .SAFE is an image of one band, not a quality mask or a preview."""
    return found is not None and "IMG_DATA" in name.split("/")


def _ending(names: Iterable[str]) -> re.Pattern[str]:
    band = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.compile(rf"(?:(?P<scene>.+)[_.-])?(?P<band>{band})(?:_(?P<metres>\d+)m)?", re.I)


def _as_written(band: str, names: Iterable[str]) -> str:
    return next(name for name in names if name.lower() == band.lower())


def _finest(sizes: list[tuple[int, str]]) -> str:
    (finest, name), *others = sorted(sizes)
    if others and finest in (0, others[0][0]):  # 0: the name does not say
        raise DataError(
            f"scene file {name}: got the same band in {others[0][1]} too, expected one file for "
            "it; remove one of them"
        )
    return name


def _put(names: dict[tuple[str, str], str], key: tuple[str, str], name: str) -> None:
    if key in names:
        raise DataError(
            f"scene file {name}: got {names[key]} of the same name, expected one file; remove one"
        )
    names[key] = name
