"""The prepare stage as the command runs it: what it takes for changed, and what it refuses."""

import logging

import numpy as np
import pytest
from PIL import Image

from rejepa_jax import stages
from rejepa_jax.config import base_config
from rejepa_jax.data.archives.layouts import LAYOUTS
from rejepa_jax.data.pipeline import open_records
from rejepa_jax.resolve import resolve
from rejepa_jax.types import ConfigError


@pytest.fixture
def archive(tmp_path):
    for number in range(10):
        path = tmp_path / "archive" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 10 * number + 5, np.uint8)).save(path)
    return tmp_path / "archive"


def config(archive, **data):
    filled = base_config()
    filled.data.update({"layout": "image_folder", "archive": str(archive), "sensor": "rgb", **data})
    filled.data.train_split = filled.eval.gallery_split = "gallery"
    filled.eval.query_split = "query"
    filled.prepare.workers = 1
    return resolve(filled)


def pixels(run):
    records = open_records(run / "records")
    images = records.read(range(len(records.records)), ["rgb"])["image"]["rgb"]
    return sorted(images[:, 0, 0, 0].tolist())


def test_an_image_that_is_replaced_or_added_is_in_the_records_of_the_next_run(archive, tmp_path):
    stages.prepare(config(archive), tmp_path)
    assert pixels(tmp_path) == [10 * number + 5 for number in range(10)]
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(archive / "class0" / "0.png")
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(archive / "class1" / "new.png")
    stages.prepare(config(archive), tmp_path)
    assert pixels(tmp_path) == [7, 9, *(10 * number + 5 for number in range(1, 10))]


def test_a_table_that_lies_beside_the_split_file_changes_nothing(archive, tmp_path, caplog):
    lines = [f"class{n % 2}/{n}.png,{'query' if n < 4 else 'gallery'}\n" for n in range(10)]
    table = tmp_path / "lists" / "mine.csv"
    table.parent.mkdir()
    table.write_text("name,split\n" + "".join(lines))
    chosen = config(archive, split_file=str(table))
    stages.prepare(chosen, tmp_path)
    (tmp_path / "lists" / "results.csv").write_text("a,b\n")
    with caplog.at_level(logging.INFO):
        stages.prepare(chosen, tmp_path)
    assert "records: complete and unchanged, skipped" in caplog.text
    table.write_text(table.read_text().replace("class1/3.png,query", "class1/3.png,gallery"))
    stages.prepare(chosen, tmp_path)
    assert len(open_records(tmp_path / "records").rows("query")) == 3


def test_what_cannot_be_meant_is_refused_before_anything_is_written(archive, tmp_path):
    with pytest.raises(ConfigError, match=r"split_file = '.*none\.csv': got nothing there"):
        stages.prepare(config(archive, split_file=str(tmp_path / "none.csv")), tmp_path)
    with pytest.raises(ConfigError, match=r"data\.sensor = 's2': the archive has rgb \(red, green"):
        stages.prepare(config(archive, sensor="s2"), tmp_path)
    with pytest.raises(ConfigError, match=r"layout = 'cards': choose one of .*'tfds'"):
        stages.prepare(config(archive, layout="cards"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_layout_that_is_added_counts_every_setting(archive, tmp_path, monkeypatch):
    monkeypatch.setitem(LAYOUTS, "mine", LAYOUTS["image_folder"])
    stages.prepare(config(archive, layout="mine"), tmp_path)
    with pytest.raises(ConfigError, match="sensor: 'rgb' -> 's1'"):
        stages.prepare(config(archive, layout="mine", sensor="s1"), tmp_path)
