"""What an archive or one shard of records holds, in words; reads, never changes."""

import collections
import pathlib

import numpy as np

from rejepa_jax import artifacts
from rejepa_jax.config import Config
from rejepa_jax.data import examples, tf_example, tfrecord
from rejepa_jax.data.archives.files import Archive, Item
from rejepa_jax.data.archives.layouts import LAYOUTS, open_archive
from rejepa_jax.data.prepare import SCHEMA
from rejepa_jax.data.records import Records
from rejepa_jax.data.shard import load_index
from rejepa_jax.resolve import resolve
from rejepa_jax.types import ConfigError, DataError

_ANYTHING = {"image_folder", "scenes"}  # layouts that take nearly any folder: tried last
_SENSORS = ("s2", "s2_l1c", "rgb")  # tried of a layout that has to be told
_SHOWN = 3  # first items, and classes of one


def describe_archive(config: Config) -> str:
    """Describes the archive that a config names; empty if it names none, or none that is there."""
    path = pathlib.Path(config.data.archive)
    if not config.data.archive or not path.exists():
        return ""
    return _in_words(path, f"layout {config.data.layout}", open_archive(config))


def guess_layout(path: pathlib.Path) -> str:
    """Describes an archive as each layout that opens it sees it, with the settings' defaults.

    Raises:
        DataError: none does; lists what each has against it.
    """
    if not path.exists():
        raise DataError(f"{path}: got nothing there, expected a run, records or an archive")
    found: list[str] = []
    refusals: list[str] = []
    for layouts in (LAYOUTS.keys() - _ANYTHING, _ANYTHING):
        for layout in sorted(layouts) if not found else ():
            opened, refusal = _try(path, layout)
            found += [opened] if opened else []
            refusals += [f"  not {layout}: {refusal}"] if refusal else []
    if not found:
        raise DataError("\n".join([f"{path}: got no run, records or archive", *refusals]))
    return "\n".join([*found, *refusals])


def _try(path: pathlib.Path, layout: str) -> tuple[str, str]:
    """Opens an archive in a layout; returns a description, or what is against it."""
    refusal = ""
    for sensor in _SENSORS:
        data = {"layout": layout, "archive": str(path), "sensor": sensor}
        try:
            archive = open_archive(resolve({"data": data}))
            told = f"layout {layout}" + (f", data.sensor={sensor}" if refusal else "")
            told += " (which takes nearly any folder)" if layout in _ANYTHING else ""
            return _in_words(path, told, archive), ""
        except DataError as error:
            refusal = str(error).removeprefix(f"archive {path}: ")
            if sensor == _SENSORS[0]:
                break  # it takes the sensor, but not the archive
        except ConfigError as error:
            refusal = refusal or str(error)
    return "", refusal


def _in_words(path: pathlib.Path, told: str, archive: Archive) -> str:
    splits = collections.Counter(item.split for item in archive.items)
    counts = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
    size = sum(sensor.num_bytes for sensor in archive.schema.sensors.values())
    lines = [f"{path}: archive, {told}, {len(archive.items)} images: {counts}"]
    lines += [
        f"  {name}: {sensor.dtype} [{sensor.height} {sensor.width} {len(sensor.bands)}], "
        f"{', '.join(sensor.bands)}"
        for name, sensor in archive.schema.sensors.items()
    ]
    lines.append(f"  records of it: about {len(archive.items) * size / 1e6:.1f} MB")
    return "\n".join([*lines, *(_item(archive, item) for item in archive.items[:_SHOWN])])


def _item(archive: Archive, item: Item) -> str:
    names = [archive.schema.classes[label] for label in item.labels]
    more = ["..."] if len(names) > _SHOWN else []
    return f"  {item.split} {item.id}: {'; '.join(names[:_SHOWN] + more) or 'no label'}"


def is_shard(path: pathlib.Path) -> bool:
    """Whether a file is named as a shard of records."""
    return path.is_file() and ".tfrecord" in path.name and path.suffix != ".npy"


def describe_shard(path: pathlib.Path) -> str:
    """Describes one shard after reading all of it against its checksums, schema and index.

    Raises:
        DataError: a checksum does not hold, or schema or index say something else.
    """
    schema_path = path.with_name(SCHEMA)
    schema = None
    if schema_path.exists():
        schema = examples.Schema.from_json(artifacts.read_json(schema_path))
    ids: list[str] = []
    rows: list[list[int]] = []
    for data in tfrecord.scan(path):
        ids.append(examples.decode(data, schema).id if schema else _id(data))
        rows.append([len(data), *(_parts(path, data, schema) if schema else ())])
    sizes = [row[0] for row in rows] or [0]
    index = _check_index(path, rows)
    return "\n".join(
        [
            f"{path}: shard, {len(rows)} records, {path.stat().st_size} bytes",
            "  every checksum holds; "
            + ("every record is as the schema says; " if schema else f"no {SCHEMA} beside it; ")
            + index,
            f"  records of {min(sizes)} to {max(sizes)} bytes",
            *([f"  first {ids[0] or '(no id)'}, last {ids[-1] or '(no id)'}"] if ids else []),
        ]
    )


def _parts(path: pathlib.Path, data: bytes, schema: examples.Schema) -> list[int]:
    try:
        return examples.find_images(data, schema)
    except (ValueError, IndexError) as error:  # decodes, but is not in the form that we write
        raise DataError(f"{path}: got a record that we have not written: {error}") from error


def _id(data: bytes) -> str:
    values = tf_example.features(data)["id"].bytes_list.value
    return values[0].decode(errors="replace") if values else ""


def _check_index(path: pathlib.Path, rows: list[list[int]]) -> str:
    """Compares the index with the lengths, and the places of parts, of the records read."""
    index = path.with_name(path.name + tfrecord.INDEX_SUFFIX)
    if not (rows and index.exists()):
        return "no index beside it" if rows else "no record for an index"
    lengths = [len(record) for record in Records([(path, len(rows))])]
    said = load_index(str(path), len(rows))[:, 1 : 1 + len(rows[0])]
    if lengths != [row[0] for row in rows] or not np.array_equal(said, rows):
        raise DataError(
            f"{index}: got other lengths or parts than the records in the shard have; remove the "
            "shard and run prepare again"
        )
    return "the index agrees"
