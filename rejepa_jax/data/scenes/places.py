"""Where and when invented scenes lie: Sentinel-2 tiles of BigEarthNet's ten countries.

Patches lie on a tile's 1,200 m grid, as BigEarthNet's do, each split in tile columns of its own.
"""

import dataclasses
import datetime

from rejepa_jax.types import ConfigError

PATCH_METRES = 1200
_TILE_ROWS = 91
_SPLIT_COLUMNS = {"train": (0, 50), "validation": (52, 70), "test": (72, 90)}
SPLITS = tuple(_SPLIT_COLUMNS)
_FIRST_DAY = datetime.date(2017, 6, 1)
_DATES, _DAYS_APART = 12, 30  # acquisitions of each tile: a year


@dataclasses.dataclass(frozen=True)
class Tile:
    """A Sentinel-2 tile: its upper left corner (UTM metres), its pass, what is found there."""

    name: str
    country: str
    left: int
    top: int
    orbit: int
    time: str  # of the pass, UTC
    landscapes: tuple[str, ...]


_TILES = (
    Tile("33UUP", "Austria", 300_000, 5_400_000, 22, "101031",
         ("plain", "bocage", "forest", "upland")),
    Tile("31UDS", "Belgium", 400_000, 5_700_000, 51, "105031",
         ("plain", "bocage", "city", "coast")),
    Tile("34VER", "Finland", 500_000, 7_100_000, 50, "100031",
         ("forest", "forest", "upland", "coast")),
    Tile("29UPV", "Ireland", 600_000, 6_000_000, 80, "113321",
         ("bocage", "upland", "city", "coast")),
    Tile("34TEN", "Kosovo", 500_000, 4_800_000, 93, "093041",
         ("plain", "bocage", "orchards", "forest")),
    Tile("34UEG", "Lithuania", 500_000, 6_200_000, 79, "095031",
         ("plain", "bocage", "forest", "coast")),
    Tile("31UGR", "Luxembourg", 700_000, 5_600_000, 8, "104021",
         ("plain", "bocage", "forest", "forest")),
    Tile("29SNC", "Portugal", 500_000, 4_300_000, 37, "112111",
         ("montado", "montado", "orchards", "coast")),
    Tile("34TDQ", "Serbia", 400_000, 5_000_000, 136, "094031",
         ("plain", "plain", "orchards", "forest")),
    Tile("32TMT", "Switzerland", 400_000, 5_300_000, 108, "103021",
         ("bocage", "forest", "upland", "city")),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Place:
    """Where patch number `index` lies, and when the two satellites pass over it."""

    tile: Tile
    column: int
    row: int
    date: datetime.date

    @property
    def patch_id(self) -> str:
        """BigEarthNet v2's name of the Sentinel-2 patch."""
        return f"{self.s2_product}_{self.column:02d}_{self.row:02d}"

    @property
    def s2_product(self) -> str:
        """The name of the Sentinel-2 product that the patch is cut from."""
        tile = self.tile
        return f"S2A_MSIL2A_{self.date:%Y%m%d}T{tile.time}_N9999_R{tile.orbit:03d}_T{tile.name}"

    @property
    def s2v1_name(self) -> str:
        """BigEarthNet v1's name of the same patch, which drops leading zeros."""
        time = int(self.tile.time)
        return f"S2A_MSIL2A_{self.date:%Y%m%d}T{time}_{self.column}_{self.row}"

    @property
    def s1_product(self) -> str:
        """The name of the Sentinel-1 product, seen the day before."""
        before = self.date - datetime.timedelta(days=1)
        return f"S1A_IW_GRDH_1SDV_{before:%Y%m%d}T165043"

    @property
    def s1_name(self) -> str:
        """BigEarthNet v2's name of the Sentinel-1 patch."""
        return f"{self.s1_product}_{self.tile.name}_{self.column}_{self.row}"

    @property
    def crs(self) -> str:
        """The coordinate system of the tile's UTM zone."""
        return f"EPSG:326{self.tile.name[:2]}"

    @property
    def corner(self) -> tuple[int, int]:
        """Easting and northing of the upper left corner, metres."""
        return (
            self.tile.left + self.column * PATCH_METRES,
            self.tile.top - self.row * PATCH_METRES,
        )

    @property
    def day_of_year(self) -> int:
        """The day that the vegetation's season follows."""
        return self.date.timetuple().tm_yday


def capacity(split: str) -> int:
    """Returns how many patches a split has room for."""
    first, end = _SPLIT_COLUMNS[split]
    return len(_TILES) * (end - first) * _TILE_ROWS


def place_of(split: str, index: int, pass_number: int) -> Place:
    """Returns the place of patch `index`, seen on one of its tile's passes (any whole number).

    Different indices below the split's capacity get different places.
    """
    if not 0 <= index < capacity(split):
        raise ConfigError(
            f"synthetic archive, split {split!r}: got patch number {index}, expected fewer than "
            f"{capacity(split)} patches; ask for fewer"
        )
    which = index % len(_TILES)
    first, end = _SPLIT_COLUMNS[split]
    # 37 shares no factor with the columns or rows, so the steps visit every cell once.
    cell = index // len(_TILES) * 37 % ((end - first) * _TILE_ROWS)
    days = pass_number % _DATES * _DAYS_APART + which
    return Place(
        _TILES[which],
        first + cell % (end - first),
        cell // (end - first),
        _FIRST_DAY + datetime.timedelta(days=days),
    )
