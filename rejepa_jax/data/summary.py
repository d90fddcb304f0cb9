"""What records hold, counted while they are written: classes, bands, places, times, what is bad.

The counts of a shard are in the note on it; those of a split are their sum, taken in the shards'
order so that not even a rounding depends on who wrote which shard when.
"""

import collections
import dataclasses
import re
from typing import Any

from rejepa_jax.console import table
from rejepa_jax.data import bounds, sensors, statistics
from rejepa_jax.data.archives.files import Item
from rejepa_jax.data.examples import Example, Schema

SUMMARY = "summary.json"
_NAMED = 5  # ids that are listed of images with a constant band
_COUNTS = ("records", "bytes", "unlabelled", "without_footprint", "undated")
_COUNTERS = ("labels", "crs", "quarantined")

Counter = collections.Counter[str]


@dataclasses.dataclass
class Summary:
    """Counts over the records of a shard or a split; an empty key of a counter is "unknown"."""

    records: int = 0
    bytes: int = 0
    unlabelled: int = 0
    labels: Counter = dataclasses.field(default_factory=Counter)  # by index, as text
    crs: Counter = dataclasses.field(default_factory=Counter)
    first: str = ""  # acquisition
    last: str = ""
    undated: int = 0
    without_footprint: int = 0
    box: bounds.Box = bounds.NOWHERE
    sums: dict[str, statistics.BandSums] = dataclasses.field(default_factory=dict)  # by sensor
    constant: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # first ids, by sensor
    quarantined: Counter = dataclasses.field(default_factory=Counter)  # by kind of reason

    def add(self, example: Example) -> None:
        """Counts one record in."""
        self.records += 1
        self.unlabelled += not example.labels
        self.labels.update(map(str, example.labels))
        self.crs[example.crs] += 1
        self.undated += not example.datetime
        self._add_times(example.datetime, example.datetime)
        self.without_footprint += not example.geometry
        self.box = bounds.joined(self.box, bounds.box(example.geometry))
        for sensor, image in example.images.items():
            sums = statistics.band_sums(image, sensors.nodata(sensor))
            self._add_sums(sensor, sums, [example.id] if sums.constant.any() else [])

    def add_bad(self, item: Item, reason: str) -> None:
        """Counts one item that could not be used, by its reason less names and numbers."""
        names = {item.id, item.place, *item.files.values()}
        for name in sorted((name for name in names if len(name) > 3), key=len, reverse=True):
            reason = reason.replace(name, "*")
        self.quarantined[re.sub(r"\d+", "#", reason)] += 1

    def plus(self, other: "Summary") -> "Summary":
        """Returns the counts over both."""
        added = {
            name: getattr(self, name) + getattr(other, name) for name in (*_COUNTS, *_COUNTERS)
        }
        both = dataclasses.replace(
            self, **added, sums=dict(self.sums), constant=dict(self.constant)
        )
        both.box = bounds.joined(self.box, other.box)
        both._add_times(other.first, other.last)
        for sensor, sums in other.sums.items():
            both._add_sums(sensor, sums, other.constant.get(sensor, []))
        return both

    def _add_times(self, first: str, last: str) -> None:
        self.first = min(filter(None, (self.first, first)), default="")
        self.last = max(self.last, last)

    def _add_sums(self, sensor: str, sums: statistics.BandSums, constant: list[str]) -> None:
        before = self.sums.get(sensor)
        self.sums[sensor] = sums if before is None else before.plus(sums)
        self.constant[sensor] = (self.constant.get(sensor, []) + constant)[:_NAMED]

    def to_json(self) -> dict[str, Any]:
        """Gives all counts in JSON's own types."""
        value = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return value | {"sums": {sensor: sums.to_json() for sensor, sums in self.sums.items()}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Summary":
        """Reads what `to_json` gave."""
        fields = dict(value)
        fields["sums"] = {k: statistics.BandSums.from_json(v) for k, v in value["sums"].items()}
        fields["box"] = tuple(value["box"])
        fields |= {name: Counter(value[name]) for name in _COUNTERS}
        return cls(**fields)

    def describe(self, schema: Schema) -> dict[str, Any]:
        """Says it all by name, in JSON's own types, for people and programs."""
        return {
            "records": self.records,
            "bytes": self.bytes,
            "labels": {name: self.labels[str(i)] for i, name in enumerate(schema.classes)},
            "unlabelled": self.unlabelled,
            "bounding_box": bounds.bounding_box(self.box),
            "without_footprint": self.without_footprint,
            "crs": {name or "unknown": count for name, count in sorted(self.crs.items())},
            "first": self.first,
            "last": self.last,
            "undated": self.undated,
            "sensors": {
                sensor: {
                    "bands": list(schema.sensors[sensor].bands),
                    **sums.statistics(),
                    "missing": sums.missing(),
                    "constant": [int(count) for count in sums.constant],
                    "constant_ids": self.constant[sensor],
                }
                for sensor, sums in sorted(self.sums.items())
            },
            "quarantined": dict(sorted(self.quarantined.items())),
        }


def to_text(content: dict[str, Any]) -> str:
    """Lays out what `summary.json` holds as tables."""
    splits, whole = content["splits"], content["all"]
    every = {**splits, "all": whole} if len(splits) > 1 else splits
    names = ("unlabelled", "without_footprint", "undated")
    heading = ["split", "records", "MB", *names, "quarantined", "first", "last"]
    rows = [
        [name, str(part["records"]), f"{part['bytes'] / 1e6:.1f}"]
        + [str(part[key]) for key in names]
        + [str(sum(part["quarantined"].values())), part["first"], part["last"]]
        for name, part in every.items()
    ]
    blocks = [table([heading, *rows])]
    if whole["labels"]:
        counts = [
            [k, *(str(part["labels"][k]) for part in every.values())] for k in whole["labels"]
        ]
        blocks.append(table([["class", *every], *counts]))
    blocks.append(table(_band_rows(whole["sensors"])))
    return "\n\n".join([*blocks, "\n".join(_remarks(whole))])


def _band_rows(found: dict[str, Any]) -> list[list[str]]:
    columns = ("min", "mean", "max", "std", "missing", "constant")
    return [["sensor", "band", *columns]] + [
        [sensor, band, *(f"{entry[column][place]:.6g}" for column in columns)]
        for sensor, entry in found.items()
        for place, band in enumerate(entry["bands"])
    ]


def _remarks(whole: dict[str, Any]) -> list[str]:
    lines = []
    if whole["bounding_box"]:
        west, south, east, north = whole["bounding_box"]
        lines.append(f"footprints within {west:.4f} {south:.4f} {east:.4f} {north:.4f} (W S E N)")
    most = sorted(whole["crs"].items(), key=lambda entry: -entry[1])
    shown = [f"{name} ({count})" for name, count in most[:8]]
    lines.append("CRS: " + ", ".join([*shown, *(["..."] if len(most) > 8 else [])]))
    for sensor, entry in whole["sensors"].items():
        if entry["constant_ids"]:
            named = ", ".join(entry["constant_ids"])
            lines.append(f"{sensor}: a band of one value, or none, in {named}")
    return lines + [f"{n} left out: {reason}" for reason, n in whole["quarantined"].items()]
