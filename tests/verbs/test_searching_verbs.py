"""The verbs over what is searched of a run, as a command line gives them."""

import argparse
import dataclasses
import json
import pathlib

import numpy as np
import pytest
import searched_run

from rejepa_jax.retrieval.collection import images, updates
from rejepa_jax.types import ConfigError, DataError
from rejepa_jax.verbs import searching


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return searched_run.make_whole(tmp_path_factory.mktemp("verbs"))


@pytest.fixture
def run(whole, tmp_path):
    """The run again, to be changed."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("records", "encoders", "embeddings", "index"):
        (run / name).symlink_to(whole[0] / name)
    return run


@pytest.fixture
def rejepa(run, capsys):
    """Runs a verb over the run; returns what it printed."""

    def call(verb, *argv):
        root = argparse.ArgumentParser()
        verbs = root.add_subparsers(required=True)

        def add(name, act):
            made = verbs.add_parser(name)
            made.set_defaults(act=act)
            return made

        searching.add_verbs(add)
        arguments = root.parse_args([verb, str(run), *map(str, argv)])
        arguments.run = pathlib.Path(arguments.run)
        assert arguments.act(arguments) == 0
        return capsys.readouterr().out

    return call


def ids(text):
    return [hit["id"] for hit in json.loads(text)]


def test_every_kind_of_query_and_filter(rejepa, whole, tmp_path):
    lines = rejepa("search", "--id", "place003", "-k", 2).splitlines()
    assert lines[0].split() == ["rank", "score", "id", "split", "labels"]
    assert len(lines) == 4
    both = ("--split", "test", "--split", "train", "--sensor", "s2", "--collection", "toy")
    where = ("--label", "water", "--from", "2018-01-02", "--to=2018-01-08", "--bbox=-1,39,9,41")
    found = ids(rejepa("search", "--id=place003", "--json", *both, *where))
    assert sorted(found) == ["place001", "place004", "place007"]
    found = ids(rejepa("search", "--point=4.1,40", "--not=place004", "--label=water", "--json"))
    assert "place004" not in found
    others = rejepa("search", "--id=place002", "--exclude_same_place", "-k24", "--json")
    assert len(ids(others)) == 22
    vectors = searched_run.unit(4, 2)
    np.savez(tmp_path / "q.npz", vectors=vectors, fingerprint=whole[1].fingerprint)
    assert len(ids(rejepa("search", "--vector", tmp_path / "q.npz", "--json"))) == 10
    np.savez(tmp_path / "other.npz", vectors=vectors, fingerprint="ab" * 32)
    with pytest.raises(DataError, match="encoder abababababab"):
        rejepa("search", "--vector", tmp_path / "other.npz")
    crop = rejepa("search", "--id=place002", "--crop=0,0,8,8", "-k3", "--out", tmp_path / "h.csv")
    assert crop == f"{tmp_path / 'h.csv'}: 3 hits\n"
    assert len((tmp_path / "h.csv").read_text().splitlines()) == 4


def test_images_come_go_and_are_merged(rejepa, run, whole, tmp_path):
    assert "version 1" in rejepa("delete", "--id", "place001", "--id=place002")
    (tmp_path / "ids.txt").write_text("place003\nplace004\n")
    rejepa("delete", "--ids", tmp_path / "ids.txt")
    everything = rejepa("search", "--id=place005", "-k20", "--json")
    assert not {"place001", "place002", "place003", "place004"} & set(ids(everything))
    assert "version 3" in rejepa("merge")
    with pytest.raises(ConfigError, match="20 ids that are there already"):
        rejepa("add", "--embeddings", whole[0])
    assert "version 4" in rejepa("add", "--embeddings", whole[0] / "embeddings", "--replace")
    assert ids(rejepa("search", "--id=place003", "-k24", "--json")).count("place001") == 1
    with pytest.raises(ConfigError, match="images and --embeddings, or neither"):
        rejepa("add")
    with pytest.raises(ConfigError, match="got no id"):
        rejepa("delete")
    assert (run / "updates" / "CURRENT").exists()
    assert "version 5" in rejepa("merge")
    said = rejepa("merge")
    assert "nothing changed" in said
    assert "version" not in said


def test_adding_a_run_adds_what_is_current_of_it(rejepa, whole, tmp_path):
    mark = whole[1].fingerprint
    vectors, more = searched_run.unit(7), searched_run.unit(8, 2)
    other = searched_run.make(tmp_path / "other", vectors, mark=mark)
    updates.delete(other, ["place003"])
    updates.add(other, searched_run.rows_of([100, 101], more), {"fingerprint": mark})
    rejepa("add", "--embeddings", other, "--replace")
    found = ids(rejepa("search", "--id=place100", "-k25", "--json"))
    assert sorted(found) == [*searched_run.names(range(24)), "place101"]
    for row, is_added in ((3, False), (4, True)):  # 3 was deleted there, and stays as it is here
        np.save(tmp_path / "v.npy", vectors[row])
        (hit,) = json.loads(rejepa("search", "--vector", tmp_path / "v.npy", "--json", "-k1"))
        assert (hit["id"] == f"place{row:03d}") == is_added


def test_nothing_is_embedded_or_searched_for_what_will_be_refused(rejepa, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("an image was read, or the run searched")

    monkeypatch.setattr(images, "_read", never)
    monkeypatch.setattr(searching, "Searcher", never)
    (tmp_path / "a").mkdir()
    for path in (tmp_path / "a" / "x.tif", tmp_path / "x.tif", tmp_path / "place004"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"got id 'x\.tif' twice"):
        rejepa("add", tmp_path / "x.tif", tmp_path / "a")
    with pytest.raises(ConfigError, match="1 ids that are there already, such as 'place004'"):
        rejepa("add", tmp_path / "place004")
    with pytest.raises(AssertionError, match="an image was read"):
        rejepa("add", tmp_path / "x.tif")
    for name, match in (("h.xlsx", "ending '.xlsx'"), ("none/h.csv", "no folder")):
        with pytest.raises(ConfigError, match=match):
            rejepa("search", "--id=place003", "--out", tmp_path / name)


def test_images_are_not_added_as_if_another_encoder_had_embedded_them(
    rejepa, monkeypatch, tmp_path
):
    real = searching.load_encoder

    def other(run):
        return dataclasses.replace(real(run), fingerprint="e" * 64)

    monkeypatch.setattr(searching, "load_encoder", other)
    (tmp_path / "x.tif").write_bytes(b"")
    with pytest.raises(DataError, match="vectors of the encoder eeeeeeeeeeee"):
        rejepa("add", tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("argv", "match"),
    [
        (("search", "--bbox=1,2,3"), "got '1,2,3', expected numbers W,S,E,N"),
        (("search", "--point=a,b"), "got 'a,b', expected numbers LON,LAT"),
        (("search", "--crop=0.5,0,1,1"), "expected numbers x0,y0,x1,y1"),
        (("search", "--mode=tiles"), "invalid choice: 'tiles'"),
        (("add", "--datetime=May"), "got 'May', expected ISO 8601"),
    ],
)
def test_arguments_that_are_none_are_refused(rejepa, capsys, argv, match):
    with pytest.raises(SystemExit, match="2"):
        rejepa(*argv)
    assert match in capsys.readouterr().err
