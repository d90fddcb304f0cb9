import dataclasses
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
import toys
from flax import nnx

from rejepa_jax import artifacts, cli
from rejepa_jax.data.examples import Sensor
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.arrays import named_arrays
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval.encoder import Bundle, Embedder, load_bundle, save_bundle
from rejepa_jax.retrieval.pooling import POOLS
from rejepa_jax.retrieval.weights import stablehlo
from rejepa_jax.retrieval.weights.exporting import export_weights
from rejepa_jax.retrieval.weights.importing import Import, read_bundle
from rejepa_jax.retrieval.weights.model_card import POOLING, write_card
from rejepa_jax.types import ConfigError

SPEC = EncoderSpec(16, 8, 2, 16, 2, 2, 4.0, "float32")
INPUT = SensorInput((2, 0), (1500.0, 1000.0), (700.0, 500.0), 0.0)
rng = np.random.default_rng(10)
IMAGES = rng.integers(0, 3000, (5, 20, 20, 3)).astype(np.uint16)
FILES = ["README.md", "bundle.json", "encoder.stablehlo", "timm.safetensors", "weights.safetensors"]


def make(name="target", pool="mean", **changes):
    spec = dataclasses.replace(SPEC, **changes)
    return Bundle(
        name=name,
        encoder=toys.filled(lambda: Encoder(spec, rngs=nnx.Rngs(0)), seed=11),
        preprocess=Preprocess(16, {"s2": INPUT}),
        sensor="s2",
        record=Sensor(("B02", "B03", "B04"), "uint16", 20, 20),
        pool=pool,
        step=120,
    )


def stage(directory, settings, inputs, info, files=()):
    """A complete artefact, as a stage leaves it."""

    def build(partial):
        for name, content in dict(files).items():
            (partial / name).write_text(content)
        for bundle in info.get("bundles", ()):
            save_bundle(bundle, partial / bundle.name)
        return artifacts.Built({key: value for key, value in info.items() if key != "bundles"})

    artifacts.run_stage(directory, settings, inputs, build)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a finished run leaves, as far as an export reads it."""
    run = tmp_path_factory.mktemp("run")
    splits = {"train": {"records": 24}, "test": {"records": 14}}
    archive = {"archive": {"name": "BigEarthNet.tar", "bytes": 9}}
    schema = {"schema.json": '{"name": "bigearthnet"}'}
    stage(run / "records", {"layout": "bigearthnet"}, archive, {"splits": splits}, schema)
    training = {
        "method": "rejepa",
        "seed": 7,
        "data": {"image_size": 16, "train_split": "train"},
        "train": {"batch_size": 8},
        "model": {},
    }
    stage(run / "checkpoints", training, {}, {})
    bundles = [make(), make("untrained", "gem", class_token=True, positions="learned")]
    names = [bundle.name for bundle in bundles]
    stage(run / "encoders", {}, {}, {"encoders": names, "bundles": bundles})
    stage(run / "embeddings", {"encoder": "target"}, {}, {})
    stage(run / "evaluation", {}, {}, {}, {"table.txt": "target encoder  plain  0.373\n"})
    return run


@pytest.fixture(scope="module")
def exported(run):
    assert cli.main(["export", str(run), str(run / "out")]) == 0
    return run / "out"


def code(card, package):
    """The block of the card's code that imports a package."""
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", card, re.S) if package in b]
    return block


def test_module_runs_without_our_package_as_the_card_says(run, exported, tmp_path):
    program = code((exported / "README.md").read_text(), "from jax import export")
    assert len(program.split("\n\n")[1].splitlines()) == 3  # after two of imports
    work = tmp_path / "elsewhere"
    work.mkdir()
    (work / "encoder.stablehlo").write_bytes((exported / "encoder.stablehlo").read_bytes())
    np.save(work / "images.npy", IMAGES)
    ban = (
        "import sys\nsys.modules['rejepa_jax'] = sys.modules['flax'] = None  # cannot be imported\n"
    )
    subprocess.run(
        [sys.executable, "-I", "-c", ban + program],
        cwd=work,
        env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
        check=True,
    )
    got = np.load(work / "descriptors.npy")
    expected = Embedder(load_bundle(run / "encoders" / "target"))({"s2": IMAGES})
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


def test_module_pools_as_the_bundle_says_on_any_platform():
    bundle = make(pool="attention", class_token=True)
    module = jax.export.deserialize(bytearray(stablehlo.to_stablehlo(bundle)))
    assert set(module.platforms) == {"cpu", "cuda", "tpu"}
    got = jax.jit(module.call)(IMAGES)
    np.testing.assert_allclose(got, Embedder(bundle)({"s2": IMAGES}), rtol=0, atol=1e-5)


def test_too_large_for_a_module_is_refused(monkeypatch):
    monkeypatch.setattr(stablehlo, "MOST_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"'target' has 0\.0 GB of weights, expected at most 0"):
        stablehlo.to_stablehlo(make())


def test_export_is_a_bundle_with_the_same_fingerprint(run, exported, tmp_path, monkeypatch):
    assert sorted(path.name for path in exported.iterdir()) == sorted([*FILES, artifacts.MANIFEST])
    assert artifacts.verify(exported) == []
    source = load_bundle(run / "encoders" / "target")
    assert load_bundle(exported).fingerprint == source.fingerprint
    monkeypatch.chdir(exported)
    np.save(tmp_path / "images.npy", IMAGES)
    program = code((exported / "README.md").read_text(), "from rejepa_jax")
    program = program.replace('"images.npy"', f"{str(tmp_path / 'images.npy')!r}")
    program = program.replace('"descriptors.npy"', f"{str(tmp_path / 'descriptors.npy')!r}")
    exec(program, {})
    expected = Embedder(source)({"s2": IMAGES})
    np.testing.assert_array_equal(np.load(tmp_path / "descriptors.npy"), expected)


def test_what_timm_gets_comes_back_as_it_was(exported):
    wanted = Import(None, 2, ("B04", "B02"), "s2", ("B04", "B02"), None, 20, (), (), "mean")
    back, _ = read_bundle(exported / "timm.safetensors", wanted)
    expected = load_bundle(exported).encoder
    assert back.encoder.spec == expected.spec
    for name, array in named_arrays(back.encoder).items():
        np.testing.assert_array_equal(array, named_arrays(expected)[name])


def test_class_token_and_learned_positions_for_timm(run, tmp_path):
    files = export_weights(run, tmp_path / "out", "untrained")
    assert sorted(files) == sorted(FILES)
    tensors = safetensors.numpy.load_file(tmp_path / "out" / "timm.safetensors")
    ours = load_bundle(tmp_path / "out").encoder
    np.testing.assert_array_equal(tensors["cls_token"][0, 0], ours.class_token[...])
    np.testing.assert_array_equal(tensors["pos_embed"][0, 0], np.zeros(16))
    np.testing.assert_array_equal(tensors["pos_embed"][0, 1:], ours.positions[...])


# --- the card


def test_card_says_what_is_known(exported):
    card = (exported / "README.md").read_text()
    for said in (
        "2 layers of 16, 2 heads, 8 px patches",
        load_bundle(exported).fingerprint,
        "surface reflectance times 10,000: 20 x 20 pixels of uint16, bands B02,",
        "| B04 | 1500 | 700 |\n| B02 | 1000 | 500 |",
        "A pixel of 0 is unknown and becomes 0 instead.",
        "2. Resampled to 16 x 16 pixels by antialiased bicubic",
        "their mean; divided by its length",
        "[n 20 20 3] uint16",
        "Method `rejepa`, 120 steps of 8 images at 16 px from split `train`, seed 7.",
        "Data set `bigearthnet`, layout `bigearthnet`, archive `BigEarthNet.tar`, fingerprint",
        "| train | 24 |\n| test | 14 |",
        "```\ntarget encoder  plain  0.373\n```",
        "To be stated by whoever passes these files on",
    ):
        assert said in card


@pytest.mark.parametrize(("pool", "size"), [("mean_std", 32), ("gem", 16), ("attention", 16)])
def test_card_counts_the_descriptors_numbers(pool, size):
    card = write_card(make(pool=pool, class_token=True), None, [])
    assert f"turns an image into {size} numbers" in card
    assert f"# [n {size}]" in card
    assert set(POOLING) == set(POOLS)


def test_card_of_a_bundle_alone(tmp_path):
    own = dataclasses.replace(INPUT, mean=(), std=(), nodata=None)
    bundle = dataclasses.replace(make(), preprocess=Preprocess(16, {"s2": own}))
    save_bundle(bundle, tmp_path / "bundle")
    export_weights(tmp_path / "bundle", tmp_path / "out", None)
    card = (tmp_path / "out" / "README.md").read_text()
    for said in ("minus the image's own mean", "This file knows no training.", "Not measured."):
        assert said in card
    assert "unknown and becomes 0" not in card


# --- where from


def test_bundle_inside_a_run_knows_the_run(run, exported, tmp_path):
    export_weights(run / "encoders" / "target", tmp_path / "out", None)
    same = [(place / "README.md").read_text() for place in (tmp_path / "out", exported)]
    assert same[0] == same[1]


def test_unknown_encoder_and_no_run_are_refused(run, tmp_path, caplog):
    assert cli.main(["export", str(run), str(tmp_path / "out"), "--encoder", "mean"]) == 2
    assert "has the encoders ['target', 'untrained'], got 'mean'" in caplog.text
    assert cli.main(["export", str(tmp_path), str(tmp_path / "out")]) == 3
    assert "has no manifest.json" in caplog.text
    assert not (tmp_path / "out").exists()


def test_folder_with_other_things_is_refused_and_stays(run, tmp_path, caplog):
    theirs = tmp_path / "thesis"
    theirs.mkdir()
    (theirs / "chapter.md").write_text("mine")
    assert cli.main(["export", str(run), str(theirs)]) == 2
    assert "thesis: got a folder with other things in it" in caplog.text
    assert [path.name for path in tmp_path.rglob("*")] == ["thesis", "chapter.md"]
