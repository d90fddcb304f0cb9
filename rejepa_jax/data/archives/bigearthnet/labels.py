"""The land cover of BigEarthNet: 19 classes, and the 43 of version 1 that they are made from.

Sumbul et al. 2021, "BigEarthNet-MM", table of the new nomenclature: eleven of the 43 classes, which
cannot be told from a patch's pixels or are too rare, have no successor.
"""

from collections.abc import Iterable, Mapping

from rejepa_jax.types import DataError

CLASSES = (
    "Agro-forestry areas",
    "Arable land",
    "Beaches, dunes, sands",
    "Broad-leaved forest",
    "Coastal wetlands",
    "Complex cultivation patterns",
    "Coniferous forest",
    "Industrial or commercial units",
    "Inland waters",
    "Inland wetlands",
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    "Marine waters",
    "Mixed forest",
    "Moors, heathland and sclerophyllous vegetation",
    "Natural grassland and sparsely vegetated areas",
    "Pastures",
    "Permanent crops",
    "Transitional woodland, shrub",
    "Urban fabric",
)
_KEPT = {  # a class of 19 whose name is none of the 43 <- what it is made from
    "Arable land": ("Non-irrigated arable land", "Permanently irrigated land", "Rice fields"),
    "Coastal wetlands": ("Salt marshes", "Salines"),
    "Inland waters": ("Water courses", "Water bodies"),
    "Inland wetlands": ("Inland marshes", "Peatbogs"),
    "Marine waters": ("Coastal lagoons", "Estuaries", "Sea and ocean"),
    "Moors, heathland and sclerophyllous vegetation": (
        "Moors and heathland",
        "Sclerophyllous vegetation",
    ),
    "Natural grassland and sparsely vegetated areas": (
        "Natural grassland",
        "Sparsely vegetated areas",
    ),
    "Permanent crops": (
        "Vineyards",
        "Fruit trees and berry plantations",
        "Olive groves",
        "Annual crops associated with permanent crops",
    ),
    "Transitional woodland, shrub": ("Transitional woodland/shrub",),
    "Urban fabric": ("Continuous urban fabric", "Discontinuous urban fabric"),
}
_DROPPED = (
    "Airports",
    "Bare rock",
    "Burnt areas",
    "Construction sites",
    "Dump sites",
    "Green urban areas",
    "Intertidal flats",
    "Mineral extraction sites",
    "Port areas",
    "Road and rail networks and associated land",
    "Sport and leisure facilities",
)
FROM_19 = {name: name for name in CLASSES}
FROM_43: dict[str, str] = {  # version 1 -> 19 classes, "" = none
    **{name: name for name in CLASSES if name not in _KEPT},
    **{old: new for new, olds in _KEPT.items() for old in olds},
    **dict.fromkeys(_DROPPED, ""),
}


def indices(
    labels: Iterable[str], patch: str, successor: Mapping[str, str] = FROM_19
) -> tuple[int, ...]:
    """Gives a patch's labels as sorted indices into `CLASSES`; it may have none.

    Raises:
        DataError: a label has no successor, not even none.
    """
    labels = set(labels)
    if unknown := sorted(labels - successor.keys()):
        raise DataError(
            f"labels of {patch}: got {', '.join(unknown)}, expected some of BigEarthNet's "
            f"{len(successor)} classes; download its metadata again"
        )
    return tuple(sorted(CLASSES.index(new) for new in {successor[old] for old in labels} - {""}))
