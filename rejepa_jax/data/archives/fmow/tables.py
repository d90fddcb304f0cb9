"""The tables that come with fMoW, one a split, and what all its layouts share."""

import csv
import datetime
import io
import os
import pathlib
import re
from typing import NamedTuple

from rejepa_jax.data.archives.files import ArchiveFiles, Item
from rejepa_jax.data.archives.split_files import bad_split, lists_beside
from rejepa_jax.types import DataError

CATEGORIES = tuple(  # the 62 published ones, alphabetical
    """airport airport_hangar airport_terminal amusement_park aquaculture archaeological_site barn
    border_checkpoint burial_site car_dealership construction_site crop_field dam debris_or_rubble
    educational_institution electric_substation factory_or_powerplant fire_station flooded_road
    fountain gas_station golf_course ground_transportation_station helipad hospital
    impoverished_settlement interchange lake_or_pond lighthouse military_facility
    multi-unit_residential nuclear_powerplant office_building oil_or_gas_facility park
    parking_lot_or_garage place_of_worship police_station port prison race_track railway_bridge
    recreational_facility road_bridge runway shipyard shopping_mall single-unit_residential
    smokestack solar_farm space_facility stadium storage_tank surface_mine swimming_pool toll_booth
    tower tunnel_opening waste_disposal water_treatment_facility wind_farm zoo""".split()  # noqa: SIM905, else a line each
)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_PICTURES = ("train", "val", "test", "test_gt", "seq", "groundtruth")  # no table lies below these


class Table(NamedTuple):
    """One split's table."""

    name: str
    text: str
    folder: str  # where it lies in the archive; "" at the top or outside


def find_tables(
    files: ArchiveFiles, names: dict[str, str], split_file: str | os.PathLike[str] = ""
) -> dict[str, Table]:
    """Reads the tables of an archive by their names, or the split file and those beside it.

    Args:
        files: The archive.
        names: Of each split's table.
        split_file: One of them, where they are not in the archive.

    Returns:
        The tables that are there, by split.

    Raises:
        DataError: If the split file is not there, or a table is in the archive twice.
    """
    if split_file:
        paths = lists_beside(pathlib.Path(split_file), tuple(names))
        return {s: Table(str(p), _text(str(p), p.read_bytes()), "") for s, p in paths.items()}
    split_of = {name: split for split, name in names.items()}
    tables: dict[str, Table] = {}
    for path in map(pathlib.PurePosixPath, files.names(skip_folders=_PICTURES)):
        if split := split_of.get(path.name):
            if split in tables:
                raise bad_split(str(path), f"it beside {tables[split].name}", "one of its name")
            folder = "" if path.parent.name == "" else f"{path.parent}/"
            tables[split] = Table(str(path), _text(str(path), files.read(str(path))), folder)
    return tables


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_split(name, repr(error), "a CSV") from error


def satmae_items(files: ArchiveFiles, tables: dict[str, Table]) -> list[Item]:
    """Lists what SatMAE's tables of cropped pictures list: label, path, timestamp.

    The category is the folder's name in the path, for the numbers of the label column are nowhere
    explained; but a label has to stand for one category only.

    Raises:
        DataError: If a row has no such path, or labels and folders disagree.
    """
    items, meaning = [], dict[str, str]()
    for split, table in tables.items():
        rows = csv.reader(io.StringIO(table.text))
        next(rows, None)  # the head
        for number, row in enumerate(rows, start=2):
            label, path, timestamp = (*row, "", "", "")[:3]
            parts = pathlib.PurePosixPath(path).parts
            where = next((i for i, part in enumerate(parts[:-2]) if part in CATEGORIES), -1)
            if where < 0 or meaning.setdefault(label, parts[where]) != parts[where]:
                got = f"the label {label!r} for {path!r} in row {number}"
                expected = f"a path .../<category>/... and the label of {meaning.get(label)}"
                raise bad_split(table.name, got, expected)
            items.append(
                Item(
                    id="/".join((split, *parts[where + 1 :])).rsplit(".", 1)[0],
                    split=split,
                    labels=(CATEGORIES.index(parts[where]),),
                    files={"rgb": table.folder + path},
                    place=f"{split}/{parts[where + 1]}",
                    facts={"datetime": utc(timestamp), "centre": ()},
                )
            )
    if not items:
        raise DataError(
            f"archive {files.path}: got no row in SatMAE's tables, expected label, path, timestamp "
            "in train_62classes.csv; set --config.data.split_file=PATH"
        )
    files.read(items[0].files["rgb"])  # paths may be those of another machine
    return items


def bounds(polygon: str) -> tuple[float, float, float, float] | None:
    """Gives west, south, east and north of a WKT polygon in longitude and latitude.

    None where it is none, or reaches across the antimeridian.
    """
    numbers = [float(number) for number in _NUMBER.findall(polygon)]
    longitudes, latitudes = numbers[::2], numbers[1::2]
    if len(numbers) < 8 or len(numbers) % 2 or max(longitudes) - min(longitudes) > 180:
        return None
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


def utc(timestamp: str) -> str:
    """Brings a timestamp to ISO 8601 in UTC; "" where there is none that can be read."""
    try:
        time = datetime.datetime.fromisoformat(timestamp)
    except ValueError:
        return ""
    if time.tzinfo:
        time = time.astimezone(datetime.UTC)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
