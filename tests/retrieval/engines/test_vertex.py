"""The import folder of Vertex AI, held against the rules of its documentation."""

import json

import fsspec
import invented
import numpy as np
import pytest

from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.retrieval.engines import loading, source
from rejepa_jax.retrieval.engines.contract import Options
from rejepa_jax.storage import files
from rejepa_jax.storage.readers import join
from rejepa_jax.types import ConfigError, DataError


def load(export, target, name="images", replace=False, **settings):
    return loading.load(export, "vertex", str(target), Options(name, replace, settings))


def validate(contents):
    """Checks a batch, {name: bytes}, by the rules of the documentation; returns it parsed.

    cloud.google.com/vertex-ai/docs/vector-search/setup/format-structure
    """
    assert len(contents) <= 5000
    points, deleted = {}, []
    for name, data in contents.items():
        *folders, file = name.split("/")
        assert folders in ([], ["delete"])
        lines = data.decode("utf-8").split("\n")
        assert lines.pop() == ""  # the last one ends too
        if folders:
            deleted += lines
            continue
        assert file.endswith(".json")
        for line in lines:
            point = json.loads(line)
            assert set(point) <= {"id", "embedding", "restricts", "numeric_restricts"}
            assert isinstance(point["id"], str)
            assert point["id"] not in points
            assert all(type(number) in (int, float) for number in point["embedding"])
            for restrict in point["restricts"]:
                assert set(restrict) == {"namespace", "allow"}
                assert restrict["allow"]
                assert all(isinstance(token, str) and token for token in restrict["allow"])
            for number in point["numeric_restricts"]:
                assert len({"value_int", "value_float", "value_double"} & set(number)) == 1
                assert type(number.get("value_int", 0)) is int
                assert type(number.get("value_double", 0.0)) is float
                assert set(number) <= {"namespace", "value_int", "value_double"}
            for kind in ("restricts", "numeric_restricts"):
                spaces = [restrict["namespace"] for restrict in point[kind]]
                assert len(spaces) == len(set(spaces))
            points[point["id"]] = point
    assert not points.keys() & set(deleted)
    return points, deleted


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return invented.write(tmp_path_factory.mktemp("export") / "embeddings")


def test_every_value_goes_through_and_every_rule_is_kept(export, tmp_path):
    (tmp_path / "gone.txt").write_text("old one\nold 'two'\n")
    loaded = load(export, tmp_path, rows_a_file="70", delete=str(tmp_path / "gone.txt"))
    assert (loaded.rows, loaded.where) == (300, str(tmp_path / "images"))
    points, deleted = validate(contents(tmp_path / "images"))
    assert deleted == ["old one", "old 'two'"]
    assert len(list((tmp_path / "images").glob("part-*.json"))) == 5
    known = reading.read(export)
    assert list(points) == known.ids
    got = np.array([point["embedding"] for point in points.values()], np.float32)
    np.testing.assert_array_equal(got, known.vectors)
    inside = invented.is_in_box(export)
    rows = zip(points.values(), known.table.to_pylist(), inside, strict=True)
    for point, row, is_inside in rows:
        tokens = {entry["namespace"]: entry["allow"] for entry in point["restricts"]}
        assert tokens.get("label", []) == row["labels"]
        for name in ("split", "sensor", "collection", "place"):
            assert tokens.get(name) == ([row[name]] if row[name] else None)
        numbers = {
            entry["namespace"]: entry.get("value_int", entry.get("value_double"))
            for entry in point["numeric_restricts"]
        }
        time = row["datetime"]
        assert numbers.get("time") == (int(time.timestamp()) if time else None)
        assert ("lon" in numbers) == (row["geometry"] is not None)
        if "lon" in numbers:
            in_box = numbers["lon"] >= 170 or numbers["lon"] <= -160
            assert (in_box and -30 <= numbers["lat"] <= 40) == is_inside


def test_many_rows_make_no_more_files_than_are_allowed(export, tmp_path, monkeypatch):
    monkeypatch.setattr("rejepa_jax.retrieval.engines.vertex.MOST_FILES", 7)
    load(export, tmp_path, rows_a_file="2")
    points, _ = validate(contents(tmp_path / "images"))
    assert len(points) == 300
    assert len(contents(tmp_path / "images")) == 7


@pytest.mark.parametrize("place", ["", "memory://bucket/vertex"])
def test_here_and_in_a_bucket_it_is_replaced_whole_or_not_at_all(
    export, tmp_path, monkeypatch, place
):
    fsspec.filesystem("memory").store.clear()
    target = place or str(tmp_path)
    whole = source.Export.batches

    def broken(self, *_):
        yield from (batch for _, batch in zip(range(3), whole(self, 50), strict=False))
        raise DataError("part-00001: a damaged page")

    def read():
        folder = join(target, "images")
        names = files.sizes(folder) if place else contents(tmp_path / "images")
        found = {name: files.read_bytes(join(folder, name)) for name in names}
        state = json.loads(files.read_bytes(join(target, "images.json")))
        assert state["complete"]
        assert state["fingerprint"] == "a" * 64
        return validate(found)[0]

    with monkeypatch.context() as patched, pytest.raises(DataError, match="a damaged page"):
        patched.setattr(source.Export, "batches", broken)
        load(export, target, rows_a_file="100")
    assert not files.exists(join(target, "images.json"))
    assert not files.exists(join(target, "images", "part-00000.json"))
    load(export, target)
    assert len(read()) == 300
    with pytest.raises(ConfigError, match="300 rows of the same encoder there already"):
        load(export, target)
    smaller = invented.write(tmp_path / "smaller", rows=60)
    load(smaller, target, replace=True, rows_a_file="20")
    assert len(read()) == 60
    other = invented.write(tmp_path / "other", rows=60, fingerprint="b" * 64)
    with pytest.raises(ConfigError, match="encoder aaaaaaaaaaaa there, expected bbbbbbbbbbbb"):
        load(other, target, replace=True)
    assert len(read()) == 60


def test_ended_while_it_moved_it_is_known_as_incomplete_and_made_again(
    export, tmp_path, monkeypatch
):
    def end(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("rejepa_jax.retrieval.engines.vertex._move", end)
        load(export, tmp_path)
    assert not json.loads((tmp_path / "images.json").read_text())["complete"]
    load(export, tmp_path)
    assert len(validate(contents(tmp_path / "images"))[0]) == 300


def test_what_cannot_be_is_refused(export, tmp_path):
    (tmp_path / "gone.txt").write_text(f"{invented.HOSTILE[2]}\n")
    with pytest.raises(ConfigError, match=r"DROP TABLE.* to be deleted and to be loaded"):
        load(export, tmp_path, delete=str(tmp_path / "gone.txt"))
    with pytest.raises(ConfigError, match=r"nothing\.txt"):
        load(export, tmp_path, delete=str(tmp_path / "nothing.txt"))
    (tmp_path / "theirs").mkdir()
    with pytest.raises(ConfigError, match="that `rejepa load` has not made"):
        load(export, tmp_path, name="theirs", replace=True)
    with pytest.raises(ConfigError, match=r"gone.txt.*expected a folder to write to"):
        load(export, tmp_path / "gone.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone.txt", "theirs"]
