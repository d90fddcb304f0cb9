"""Which kind is chosen for a gallery and a machine, and how settings are tuned and measured."""

import importlib.util
import json

import jax
import numpy as np
import pytest

from rejepa_jax.retrieval import exact
from rejepa_jax.retrieval.index import building, kinds, loading, recall
from rejepa_jax.retrieval.index.tuning import tune
from rejepa_jax.types import ConfigError

GIB = 2**30


@pytest.fixture
def machine(monkeypatch):
    """Pretends a machine: memory, installed packages, and accelerators of some memory each."""

    def pretend(memory=16, installed=("scann", "faiss", "hnswlib", "jax"), devices=0, each=16):
        known = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": memory * GIB // 4096}
        monkeypatch.setattr(kinds.os, "sysconf", known.__getitem__)
        found = {name: object() for name in installed}
        monkeypatch.setattr(importlib.util, "find_spec", found.get)

        class Device:
            def memory_stats(self):
                return {"bytes_limit": each * GIB}

        if devices:
            monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
            monkeypatch.setattr(jax, "local_devices", lambda: [Device()] * devices)
            monkeypatch.setattr(jax, "local_device_count", lambda: devices)

    return pretend


@pytest.mark.parametrize(
    ("rows", "settings", "kind", "reason"),
    [
        (20_000, {}, "exact", "no more than 20000 rows"),
        (20_001, {}, "scann", "fit into memory"),
        (20_001, {"installed": ["faiss"]}, "faiss", "fit into memory"),
        (20_001, {"installed": []}, "exact", "neither ScaNN nor FAISS"),
        (8_000_000, {"memory": 16}, "int8", "a quarter of them does"),  # 11.4 GiB of vectors
        (100_000_000, {"memory": 16}, "bits", "not even a quarter"),
        (100_000, {"devices": 1}, "exact", "fit on the accelerator"),
        (100_000, {"devices": 8}, "device", "on 8 accelerators together"),
        (30_000_000, {"devices": 8}, "device", "on 8 accelerators together"),  # 42.9 GiB of 64
        (80_000_000, {"devices": 8}, "device", "as bfloat16 only"),
        (200_000_000, {"devices": 8}, "bits", "do not fit on 8 accelerators; of the CPU: not even"),
    ],
)
def test_auto_chooses_by_size_and_machine_and_says_why(machine, rows, settings, kind, reason):
    machine(**settings)
    chosen, choices, why = kinds.choose("auto", rows, 384)
    assert chosen == kind
    assert reason in why
    assert choices == ({"dtype": "bfloat16"} if "bfloat16" in reason else {})


def test_the_choice_is_kept_with_the_index(tmp_path, caplog):
    gallery = np.eye(9, dtype=np.float32)
    with caplog.at_level("INFO"):
        info = building.build(gallery, tmp_path, "auto", "f")
    assert info["kind"] == "exact"
    assert "no more than 20000 rows" in info["reason"]
    assert "exact for 9 rows of 9: no more than 20000 rows" in caplog.text


@pytest.mark.parametrize("kind", ["scann", "faiss", "hnsw"])
def test_kinds_without_their_package_are_refused(machine, tmp_path, kind):
    machine(installed=["jax"])
    with pytest.raises(ConfigError, match=f"'{kind}' without .*; pip install"):
        building.build(np.eye(9, dtype=np.float32), tmp_path, kind, "f")
    content = {"schema": "rejepa-index/2", "kind": kind, "rows": 9, "dim": 9, "files": {}}
    (tmp_path / "index.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=f"'{kind}' without"):
        loading.load(tmp_path)


def test_tuning_takes_the_first_steps_that_are_good_enough():
    recipe, asked = {}, []

    def measure():
        asked.append(dict(recipe))
        return min(0.80 + 0.02 * recipe["depth"], 0.9 + 0.01 * recipe["leaves"])

    ladders = {"depth": range(1, 11), "leaves": range(1, 11)}
    tune(recipe, ladders, measure, target=0.95)  # 0.96 with the margin, 0.98 for the first
    assert recipe == {"depth": 9, "leaves": 6}
    assert all(step["leaves"] == 10 for step in asked if step["depth"] != 9)
    tune(recipe, {"depth": range(1, 4)}, measure, target=0.95)
    assert recipe["depth"] == 3  # not enough, and no more to be had
    tune(recipe, {}, measure, target=0.95)
    assert recipe == {"depth": 3, "leaves": 6}


def test_recall_is_of_rows_that_were_not_tuned_on_and_does_not_count_themselves():
    gallery = np.random.default_rng(0).normal(size=(400, 16)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    tuning, held_out = recall.samples(gallery)
    drawn = np.concatenate([tuning.own, held_out.own])
    np.testing.assert_array_equal(np.sort(drawn), np.arange(400))

    def first_rows_only(queries, k, allowed):
        assert allowed is None
        return np.ones((len(queries), k), np.float32), np.tile(np.arange(k), (len(queries), 1))

    truth = exact.top_k(gallery, gallery, 11)[1]
    found = 0
    for row in held_out.own:
        mine = [near for near in truth[row].tolist() if near != row][:10]
        theirs = [near for near in range(11) if near != row][:10]
        found += len(set(mine) & set(theirs))
    measured = held_out.recall(first_rows_only)
    assert measured == pytest.approx(found / (10 * len(held_out.own)), abs=1e-12)
