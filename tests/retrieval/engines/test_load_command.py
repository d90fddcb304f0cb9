"""`rejepa load` over a run: what is current of it goes into the engine."""

import argparse
import json
import shutil

import invented
import pytest

from rejepa_jax import artifacts
from rejepa_jax.retrieval.collection import updates
from rejepa_jax.retrieval.collection.parts import Rows
from rejepa_jax.retrieval.embeddings.schema import EmbeddingPart
from rejepa_jax.types import ConfigError, DataError
from rejepa_jax.verbs import loading


def build_run(run):
    """A run of which the stages made embeddings and an index; the index is of no account here."""
    run.mkdir()

    def build(partial):
        shutil.copytree(invented.write(run / "made"), partial, dirs_exist_ok=True)
        return artifacts.Built({})

    made = artifacts.run_stage(run / "embeddings", {}, {}, build)
    inputs = {"embeddings": made["fingerprint"]}
    artifacts.run_stage(run / "index", {}, inputs, lambda _: artifacts.Built({}))
    return run


def load(run, *arguments):
    verbs = argparse.ArgumentParser().add_subparsers()
    made = {}

    def verb(name, act):
        made[name] = verbs.add_parser(name, help=act.__doc__)
        made[name].set_defaults(act=act)
        return made[name]

    loading.add_verbs(verb)
    parsed = made["load"].parse_args([str(run), *map(str, arguments)])
    parsed.run = run
    return parsed.act(parsed)


def points(folder):
    lines = [path.read_text().splitlines() for path in sorted(folder.glob("part-*.json"))]
    return [json.loads(line) for part in lines for line in part]


def test_images_added_and_deleted_since_are_taken_into_account(tmp_path, capsys):
    run = build_run(tmp_path / "run")
    assert load(run, "vertex", tmp_path / "out") == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/out/rejepa: 300 rows\n")
    updates.delete(run, [invented.HOSTILE[2], "folder 1/image 1.tif"])
    again = EmbeddingPart(0, [invented.HOSTILE[2]], invented.unit(1, 9), ["s2"], [["new"]])
    updates.add(run, [Rows(again, lambda _: None)], {"fingerprint": "a" * 64})
    option = ("--option", "rows_a_file=100")
    assert load(run, "vertex", tmp_path / "out", "--name", "now", *option) == 0
    found = points(tmp_path / "out" / "now")
    names = [point["id"] for point in found]
    assert len(names) == len(set(names)) == 299
    assert names[-1] == invented.HOSTILE[2]
    assert found[-1]["restricts"][0] == {"namespace": "label", "allow": ["new"]}
    assert "folder 1/image 1.tif" not in names


def test_damaged_run_is_refused_before_anything_is_written(tmp_path):
    run = build_run(tmp_path / "run")
    (run / "embeddings" / "part-00001-of-00002.parquet").write_bytes(b"cut")
    with pytest.raises(DataError, match="got 3 bytes"):
        load(run, "vertex", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_options_that_are_none_are_refused(tmp_path):
    run = build_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="got --option 'm', expected key=value"):
        load(run, "vertex", tmp_path / "out", "--option", "m")
    with pytest.raises(ConfigError, match="got --option m, expected one of: rows_a_file, delete"):
        load(run, "vertex", tmp_path / "out", "--option", "m=3")
    with pytest.raises(SystemExit):
        load(run, "oracle", tmp_path / "out")
