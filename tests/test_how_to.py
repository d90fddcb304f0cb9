"""The code in docs/how-to-layout.md, run as the page says."""

import importlib
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import road
from scene_writer import noise, write

from rejepa_jax.data.archives.layouts import LAYOUTS
from rejepa_jax.data.pipeline import open_records
from rejepa_jax.resolve import resolve
from rejepa_jax.types import DataError

PAGE = road.ROOT / "docs" / "how-to-layout.md"
LAYOUT, CONFIG = "labelled_tiles", "labelled_tiles_config"
NAMES = ("red", "green", "blue", "nir")


@pytest.fixture
def code(tmp_path):
    """The folder with the page's files, each named in the heading above its code."""
    found = re.findall(r"## [^\n]*`(\w+\.py)`\n\n```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in found] == [f"{LAYOUT}.py", f"{CONFIG}.py"]
    folder = tmp_path / "code"
    folder.mkdir()
    for name, text in found:
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def archive(tmp_path):
    """Six tiles, of which the last lacks a band."""
    rows = ["name,labels,split,place,time"]
    for number in range(6):
        name, split = f"tiles/{number}.tif", ("train", "test")[number % 2]
        bands = 3 if number == 5 else 4
        write(tmp_path / "a" / name, noise(number, bands, 8, 8), names=NAMES[:bands])
        labels, day = "water|forest" if number else "urban", f"2020-06-0{number + 1}T00:00:00Z"
        rows.append(f"{name},{labels},{split},here,{day}")
    (tmp_path / "a" / "tiles.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "a"


def check(examples, schema):
    assert schema.classes == ("forest", "urban", "water")
    assert schema.sensors["image"].bands == NAMES
    one, two = examples["tiles/0.tif"], examples["tiles/1.tif"]
    assert (one.labels, one.datetime, one.place) == ((1,), "2020-06-01T00:00:00Z", "here")
    assert (two.labels, two.crs, len(two.geometry)) == ((0, 2), "EPSG:32634", 93)
    for number, example in enumerate((one, two)):
        pixels = np.moveaxis(noise(number, 4, 8, 8), 0, -1)
        np.testing.assert_array_equal(example.images["image"], pixels)


def test_the_layout_of_the_page(code, archive, monkeypatch):
    assert len((code / f"{LAYOUT}.py").read_text().splitlines()) < 60
    monkeypatch.syspath_prepend(code)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in (LAYOUT, CONFIG):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(LAYOUTS, LAYOUT, None)  # to be taken out again afterwards
    config = importlib.import_module(CONFIG).get_config()
    with config.unlocked():
        config.data.archive = str(archive)
    listed = LAYOUTS[LAYOUT](resolve(config))
    *good, bad = sorted(listed.items, key=lambda item: item.id)
    assert [item.split for item in listed.items] == ["test"] * 3 + ["train"] * 3
    check({item.id: listed.read(listed.files, item, listed.schema) for item in good}, listed.schema)
    with pytest.raises(DataError, match=r"tile tiles/5.tif: got bands \('red', 'green', 'blue'\)"):
        listed.read(listed.files, bad, listed.schema)


@pytest.mark.slow
def test_two_worker_processes_find_the_layout_of_the_page(code, archive, tmp_path):
    flags = {"data.archive": archive, "prepare.workers": 2, "prepare.shard_records": 2}
    flags |= {"prepare.max_bad_fraction": 0.2}
    command = road.command(
        "main",
        *("--config", code / f"{CONFIG}.py", "--workdir", tmp_path / "run"),
        *("--stage", "prepare", *(f"--config.{key}={value}" for key, value in flags.items())),
    )
    environment = road.environment() | {"PYTHONPATH": os.fspath(code)}
    done = subprocess.run(
        command, cwd=road.ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    records = open_records(tmp_path / "run" / "records")
    assert {split: len(rows) for split, rows in records.splits.items()} == {"test": 2, "train": 3}
    check({example.id: example for example in records.read_examples(range(5))}, records.schema)
    (bad,) = (tmp_path / "run" / "records" / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(bad)["id"] == "tiles/5.tif"
