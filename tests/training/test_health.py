"""The rule by hand; the measures against the same embedding elsewhere; runs that do collapse."""

import dataclasses
import logging
import re
from functools import partial

import fake_archive
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from toys import QUICK, RUN, toy_config

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare
from rejepa_jax.data import pipeline
from rejepa_jax.data.archives import synthetic
from rejepa_jax.data.archives.bigearthnet import archive as bigearthnet
from rejepa_jax.data.prepare import prepare
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.retrieval.encoder import embed
from rejepa_jax.retrieval.feature_statistics import feature_statistics
from rejepa_jax.retrieval.metrics.evaluating import evaluate
from rejepa_jax.training import checkpoint, loop
from rejepa_jax.training.compute import Compute
from rejepa_jax.training.health import CollapseError, Health, collapsed, read_sample
from rejepa_jax.training.monitor import LOG, Monitor, read_log
from rejepa_jax.training.step import train_step
from rejepa_jax.types import ConfigError

MEASURES = ("rank_me", "feature_std", "mean_cosine", "uniformity", "f1")

# --- the rule


def line(step, std=0.4, rank=10.0, name="target"):
    return {"step": step, "loss": 1.0, f"{name}/feature_std": std, f"{name}/rank_me": rank}


PLAIN = {"step": 15, "loss": 1.0}  # a step that was logged and not measured
GONE = {"std": 0.1}


@pytest.mark.parametrize(("std", "rank"), [(0.4, 10.0), (0.13, 4.1), (2.0, 90.0)])
def test_healthy_by_hand(std, rank):
    assert collapsed([line(0), line(10, std, rank), PLAIN, line(20, std, rank)]) == {}


@pytest.mark.parametrize(
    ("std", "rank", "reason"),
    [
        (0.11, 10.0, "feature_std 0.11, less than 0.3 x 0.4 of step 0$"),
        (0.9, 3.9, "rank_me 3.9, less than 0.4 x 10 of step 0$"),
        (0.1, 3.0, "feature_std 0.1, .* and rank_me 3, "),
        (0.009, 30.0, "and feature_std 0.009, less than 0.01$"),
    ],
)
def test_collapsed_by_hand(std, rank, reason):
    found = collapsed([line(0), line(10, std, rank), PLAIN, line(20, std, rank)])
    assert list(found) == ["target"]
    assert re.search("^the target encoder has collapsed at step 20: .*" + reason, found["target"])


def test_one_measurement_is_not_enough_and_two_must_follow_one_another():
    lines = [line(0), line(10, **GONE), line(20), line(30, **GONE), PLAIN, line(40, **GONE)]
    assert [bool(collapsed(lines[:count])) for count in range(7)] == [False] * 6 + [True]
    assert not collapsed([*lines, line(50)])


def test_encoder_that_was_never_alive_is_flagged_at_the_second_measurement():
    assert collapsed([line(0, std=1e-7)]) == {}
    assert list(collapsed([line(0, std=1e-7), line(10, std=1e-7)])) == ["target"]


def test_encoders_are_judged_each_by_itself():
    lines = [line(step) | line(step, std, name="context") for step, std in ((0, 1), (1, 0), (2, 0))]
    assert list(collapsed(lines)) == ["context"]


# --- measuring


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Eleven images unseen in training: they do not divide over the devices, nor in two halves."""
    counts = {"train": 32, "validation": 11}
    return fake_archive.prepared(tmp_path_factory.mktemp("health"), counts, size=16)


@pytest.fixture(scope="module")
def health(toy_run, records):
    """Measures all eleven on eight devices."""
    config = toy_config(**RUN, health={"every": 3, "images": 64})
    return Health(config, records, toy_run.update, toy_run.mesh)


def test_when_to_measure(health, toy_run, records):
    assert [step for step in range(8) if health.is_due(step)] == [0, 3, 6]
    for every, due in ((4, [0, 4, 6]), (0, [])):  # the last step always, or none at all
        config = toy_config(**RUN, health={"every": every})
        other = Health(config, records, toy_run.update, toy_run.mesh)
        assert [step for step in range(8) if other.is_due(step)] == due


def test_sample_is_spread_over_the_query_split_and_no_larger_than_asked(records):
    config = toy_config(health={"images": 6})
    sample = read_sample(records, config, devices=4)
    assert [images.shape for images in sample.batches] == [(8, 16, 16, 3)]
    rows = records.rows("validation")[[0, 2, 4, 6, 8, 10]]
    examples = records.read_examples(rows)
    np.testing.assert_array_equal(
        sample.batches[0][:6], np.stack([example.images["s2"] for example in examples])
    )
    for labels, example in zip(sample.labels, examples, strict=True):
        assert tuple(np.flatnonzero(labels)) == example.labels


def test_split_too_small_to_measure_on_is_refused(tmp_path):
    few = fake_archive.prepared(tmp_path, {"train": 8, "validation": 3}, size=16)
    with pytest.raises(ConfigError, match=r"got 3 images of split 'validation'.*health\.every = 0"):
        read_sample(few, toy_config(), devices=8)


def test_measures_equal_those_of_the_embeddings_on_one_device(health, toy_run, records):
    measured = health.measure(toy_run.start)
    assert list(measured) == [f"{name}/{key}" for name in ("target", "context") for key in MEASURES]
    examples = records.read_examples(records.rows("validation"))
    images = jnp.array(np.stack([example.images["s2"] for example in examples]))
    encoder = jax.device_put(toy_run.start.params["context_encoder"], jax.devices()[0])
    vectors = np.asarray(embed(encoder, {"s2": images}, toy_run.update.preprocess, "mean"))
    for name, value in feature_statistics(vectors).items():
        assert measured[f"context/{name}"] == pytest.approx(value, rel=1e-4), name
    labels = np.eye(3, dtype=bool)[[label for example in examples for label in example.labels]]
    ranking = np.argsort(-vectors[::2] @ vectors[1::2].T, axis=1)  # k = 10, the gallery has five
    expected = evaluate(labels[::2], labels[1::2], ranking)["f1_micro_sets"].value
    assert measured["context/f1"] == pytest.approx(expected)


def test_without_labels_there_is_no_score(health, toy_run, monkeypatch):
    sample = health._sample
    unlabelled = dataclasses.replace(sample, labels=np.zeros_like(sample.labels))
    monkeypatch.setitem(vars(health), "_sample", unlabelled)
    measured = health.measure(toy_run.start)
    assert {key.partition("/")[2] for key in measured} == set(MEASURES) - {"f1"}


def test_descriptors_that_are_no_numbers_stop_the_run(health, toy_run):
    lost = jax.tree.map(lambda array: array * jnp.nan, toy_run.start.average)
    state = dataclasses.replace(toy_run.start, average=lost)
    with pytest.raises(FloatingPointError, match="the target encoder's descriptors are no longer"):
        health.measure(state)


def test_warning_comes_once_an_onset(health, caplog):
    lines = [line(0), *(line(step, **GONE) for step in (3, 6, 9)), line(12)]
    lines += [line(15, **GONE), PLAIN, line(18, **GONE)]
    warned = []
    with caplog.at_level(logging.WARNING):
        for count in range(1, len(lines) + 1):
            caplog.clear()
            health.judge(lines[:count])
            warned += [lines[count - 1]["step"] for _ in caplog.records]
    assert warned == [6, 18]
    assert "Training goes on" in caplog.text
    assert "Raise vicreg.weight" in caplog.text


def test_stop_says_what_to_do_also_when_taken_up_after_the_onset(toy_run, records):
    config = toy_config(**RUN, health={"on_collapse": "stop"})
    health = Health(config, records, toy_run.update, toy_run.mesh)
    lines = [line(0), *(line(step, **GONE) for step in (3, 6, 9))]
    health.judge(lines[:2])
    for count in (3, 4):
        with pytest.raises(CollapseError, match=r"0\.3 x 0\.4.*checkpoints are kept.*Raise vicreg"):
            health.judge(lines[:count])


# --- whole runs


@pytest.fixture
def train(toy_run, records, monkeypatch):
    """Trains six steps with what is compiled already."""
    monkeypatch.setattr(loop, "compile_step", lambda *_: toy_run.step)
    monkeypatch.setattr(loop, "init_state", lambda *_: jax.tree.map(jnp.copy, toy_run.start))
    monkeypatch.setattr(loop, "measure_compute", lambda _: Compute(1e6, 1e12, "invented"))

    def train(directory, **settings):
        config = toy_config(**RUN, health=settings)
        directory.mkdir(exist_ok=True)
        described = artifacts.plain(loop.describe(config))
        return loop.train(config, records, directory, described)

    return train


def measures(directory):
    """The measured lines without what the step itself logs."""
    return {
        line["step"]: {key: value for key, value in line.items() if "/" in key}
        for line in read_log(directory / LOG)
        if "target/f1" in line
    }


@pytest.mark.slow
def test_measuring_changes_nothing_and_goes_on_after_an_interruption(
    train, toy_run, tmp_path, monkeypatch
):
    measured, blind, log = tmp_path / "measured", tmp_path / "blind", Monitor.log
    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "log", lambda self, n, state: log(self, n, state) or 1 / (4 - n))
        with pytest.raises(ZeroDivisionError):  # after step 4; the checkpoint is that of 2
            train(measured, every=3, images=8)
    before = measures(measured)
    assert list(before) == [0, 3]
    assert train(measured, every=3, images=8).info["collapsed"] == []
    after = measures(measured)
    assert list(after) == [0, 3, 6]
    assert {step: after[step] for step in before} == before

    train(blind, every=0)
    assert measures(blind) == {}
    ours, others = (
        named_arrays(checkpoint.restore_state(path, toy_run.abstract)) for path in (measured, blind)
    )
    for name, array in ours.items():
        np.testing.assert_array_equal(array, others[name], err_msg=name)


@pytest.mark.slow
def test_run_that_stops_for_collapse_keeps_the_checkpoints_before(train, tmp_path, monkeypatch):
    def measure(self, state):
        del self
        return {"target/feature_std": 0.4 if state.step < 3 else 0.01, "target/rank_me": 9.0}

    monkeypatch.setattr(Health, "measure", measure)
    with pytest.raises(CollapseError, match="at step 4"):
        train(tmp_path, every=1, on_collapse="stop")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["2"]
    assert [line["step"] for line in read_log(tmp_path / LOG)] == [0, 1, 2, 3, 4]


# --- runs that collapse


RUNS = {
    "healthy": {"vicreg": {"weight": 1.0}, "ema": {"start": 0.98}},
    "disabled": {"vicreg": {"weight": 0.0}, "ema": {"start": 0.0, "end": 0.0}},
}


@pytest.mark.slow
def test_without_vicreg_and_average_a_run_is_flagged_within_twenty_steps(toy_run, records):
    rate = {"start_lr": 1e-2, "peak_lr": 1e-2, "end_lr": 1e-2, "warmup_steps": 0}
    common = {"data": RUN["data"], "optim": rate, "train": {"steps": 20}}
    start = jax.device_put(toy_run.start, jax.devices()[0])
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    images = records.read(records.rows("train"), ("s2",))["image"]["s2"]
    flagged = {}
    for name, changes in RUNS.items():
        config = toy_config(**common, **changes, health={"every": 5, "images": 8})
        update = loop.make_update(config, records)
        health = Health(config, records, update, mesh)
        step = jax.jit(partial(train_step, update=update), compiler_options=QUICK)
        state, lines = start, [{"step": 0} | health.measure(start)]
        for number in range(1, 21):
            rows = np.random.default_rng(number).permutation(32)[:16]
            batch = {"image": {"s2": jnp.array(images[rows])}, "id": rows, "valid": rows >= 0}
            state, _ = step(state, batch)
            if health.is_due(number):
                lines.append({"step": number} | health.measure(state))
                if collapsed(lines):
                    flagged.setdefault(name, number)
    assert list(flagged) == ["disabled"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Drawn scenes in two bands of Sentinel-1."""
    root = tmp_path_factory.mktemp("scenes")
    counts = {"train": 256, "validation": 128, "test": 1}
    synthetic.write_archive(root / "archive", seed=0, counts=counts, workers=2)
    archive = bigearthnet.open_archive(str(root / "archive"), "clean")
    settings = Prepare(workers=2, shard_records=64)
    artifacts.run_stage(root / "records", {}, {}, lambda path: prepare(archive, path, settings))
    return pipeline.open_records(root / "records")


@pytest.mark.slow
@pytest.mark.parametrize("is_healthy", [True, False])
def test_runs_on_scenes_are_told_apart_within_a_hundred_steps(scenes, tmp_path, is_healthy):
    config = toy_config(
        **RUNS["healthy" if is_healthy else "disabled"],
        data={"sensor": "s1", "image_size": 48},
        augment={"crop_scale": (0.3, 1.0), "rotate": True, "offset": 0.5},
        model={"embed_dim": 64, "predictor_dim": 32},
        mask={"target_ratio": 0.25},
        train={"steps": 100, "batch_size": 64},
        optim={"warmup_steps": 20},
        health={"every": 20, "images": 128, "on_collapse": "stop"},
    )
    described = artifacts.plain(loop.describe(config))
    if is_healthy:
        built = loop.train(config, scenes, tmp_path, described)
        assert built.info["collapsed"] == []
        assert len(measures(tmp_path)) == 6
    else:
        with pytest.raises(CollapseError):
            loop.train(config, scenes, tmp_path, described)
