import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare
from rejepa_jax.data import signatures
from rejepa_jax.data.archives import image_folder
from rejepa_jax.data.archives.files import Archive, ArchiveFiles, Item
from rejepa_jax.data.examples import Example, Schema, Sensor
from rejepa_jax.data.near_duplicates import Pair, Report, Twins, find_near_duplicates, to_text
from rejepa_jax.data.pipeline import open_records
from rejepa_jax.data.prepare import prepare

SIZE = 48


def scene(seed):
    """A picture with large and small forms, as images of the ground have them."""
    rng = np.random.default_rng(seed)
    values = np.zeros((SIZE, SIZE, 3))
    for cells in (3, 6, 12, 24):
        coarse = rng.normal(size=(cells, cells, 3))
        values += coarse.repeat(SIZE // cells, 0).repeat(SIZE // cells, 1) / np.sqrt(cells)
    values = 1500 + 400 * values * rng.uniform(0.5, 1.5, 3)
    return values.clip(1, 65535).astype(np.uint16)


def jpeg(image):
    """Recompressed as eight bits."""
    file = io.BytesIO()
    Image.fromarray((image / 16).clip(0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=90, subsampling=0
    )
    return np.array(Image.open(file)).astype(np.uint16) * 16


def brighter(image):
    return (image * 1.3 + 200).astype(np.uint16)


def noisy(image):
    noise = np.random.default_rng(9).normal(0, 60, image.shape)
    return (image + noise).clip(1, None).astype(np.uint16)


def holey(image):
    """A corner of it was not measured."""
    image = image.copy()
    image[:8, :8] = 0
    return image


def records(tmp_path, images):
    """The records of images by (split, id)."""
    schema = Schema("toy", {"s2": Sensor(("B02", "B03", "B04"), "uint16", SIZE, SIZE)}, ())
    folder = tmp_path / "raw"
    folder.mkdir()
    for (_, name), image in images.items():
        (folder / name).write_bytes(image.tobytes())
    items = tuple(Item(name, split, (), {"s2": name}) for split, name in sorted(images))
    archive = Archive(schema, items, ArchiveFiles(folder), read_raw)
    settings = Prepare(workers=1, shard_records=50)
    artifacts.run_stage(tmp_path / "r", {}, {}, lambda path: prepare(archive, path, settings))
    return open_records(tmp_path / "r")


def read_raw(files, item, schema):
    values = np.frombuffer(files.read(item.files["s2"]), np.uint16)
    return Example(item.id, {"s2": values.reshape(schema.sensors["s2"].shape)}, (), item.id)


def test_planted_duplicates_are_found_and_nothing_else(tmp_path):
    images = {("train", f"train{n:03d}"): scene(n) for n in range(150)}
    images |= {("test", f"test{n:03d}"): scene(1000 + n) for n in range(60)}
    images |= {("validation", f"val{n:03d}"): scene(2000 + n) for n in range(40)}
    whole = images["train", "train007"]
    planted = {
        ("test", "equal"): whole,
        ("test", "noisy"): noisy(images["train", "train011"]),
        ("test", "brighter"): brighter(images["train", "train012"]),
        ("validation", "recompressed"): jpeg(images["train", "train013"]),
        ("validation", "holey"): holey(images["test", "test020"]),
        ("train", "within the split"): noisy(images["train", "train014"]),
        ("test", "flipped"): scene(15)[:, ::-1],
        ("test", "turned"): np.rot90(scene(16)).copy(),
        ("train", "flat one"): np.full((SIZE, SIZE, 3), 700, np.uint16),
        ("test", "flat two"): np.full((SIZE, SIZE, 3), 700, np.uint16),
        ("validation", "flat three"): np.full((SIZE, SIZE, 3), 900, np.uint16),
        ("validation", "nothing known"): np.zeros((SIZE, SIZE, 3), np.uint16),
    }
    report = find_near_duplicates(records(tmp_path, images | planted), "s2")
    found = {(*sorted(pair.ids), pair.is_exact): pair for pair in report.pairs}
    assert set(found) == {
        ("equal", "train007", True),
        ("flat one", "flat two", True),
        ("noisy", "train011", False),
        ("brighter", "train012", False),
        ("recompressed", "train013", False),
        ("holey", "test020", False),
    }
    assert (report.found, report.flat, report.images) == (6, 4, 262)
    assert [pair.is_exact for pair in report.pairs] == [True, True, False, False, False, False]
    assert found["brighter", "train012", False].correlation == pytest.approx(1, abs=1e-5)
    twins = {(t.split, t.other): (t.exact, t.near, t.images) for t in report.twins}
    assert twins == {
        ("test", "train"): (2, 2, 66),
        ("train", "test"): (2, 2, 152),
        ("train", "validation"): (0, 1, 152),
        ("validation", "train"): (0, 1, 44),
        ("test", "validation"): (0, 1, 66),
        ("validation", "test"): (0, 1, 44),
    }
    assert json.loads(json.dumps(report.to_json()))["pairs"][0]["correlation"] == 1.0


def test_the_report_in_words():
    report = Report(
        sensor="s2",
        threshold=0.97,
        images=30,
        flat=1,
        twins=(Twins("test", "train", 1, 2, 10),),
        found=3,
        pairs=(
            Pair(("test", "train"), ("a", "b"), 1.0, is_exact=True),
            Pair(("test", "train"), ("c", "d"), 0.98765, is_exact=False),
        ),
    )
    assert to_text(report).split("\n") == [
        "30 images of s2: 3 pairs in two splits, equal or correlated by 0.97 and more; 1 images "
        "without contrast were only searched for equal ones",
        "",
        "split  has in  equal  near  of images",
        "-------------------------------------",
        "test   train       1     2         10",
        "",
        "correlation  image    and image",
        "-------------------------------",
        "equal        test: a  train: b",
        "0.9877       test: c  train: d",
    ]
    assert to_text(dataclasses.replace(report, twins=(), pairs=())).count("\n") == 0


def test_signatures_by_hand():
    image = np.zeros((1, 4, 4, 2), np.uint16)
    image[0, :2, :2, 0], image[0, 2:, 2:, 0] = 1, 9  # two cells unknown, the means 1 and 9
    image[0, ..., 1] = 5
    found = signatures.describe(image, 2, nodata=0.0)
    # Cells 1, ?, ?, 9 are -4, 0, 0, 4 from their mean 5; the second band has no contrast.
    np.testing.assert_allclose(found.reshape(4, 2)[:, 0], [-(0.5**0.5), 0, 0, 0.5**0.5], atol=1e-6)
    assert not found.reshape(4, 2)[:, 1].any()
    other = np.random.default_rng(0).integers(1, 9, (3, 7, 6, 2)).astype(np.int16)
    both = signatures.describe(other, 3, None)
    rows, columns = ((0, 2, 4), (0, 2, 4))  # of 7 and 6 pixels in three cells
    cells = np.stack(
        [
            other[:, r : (*rows, 7)[i + 1], c : (*columns, 6)[j + 1]].mean((1, 2))
            for i, r in enumerate(rows)
            for j, c in enumerate(columns)
        ],
        axis=1,
    )
    expected = np.mean([np.corrcoef(cells[0, :, band], cells[1, :, band])[0, 1] for band in (0, 1)])
    assert both[0] @ both[1] == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, rtol=1e-5)


def pairs_by_brute_force(vectors, group, least):
    alike = np.argwhere(np.triu(vectors @ vectors.T >= least, 1))
    return {tuple(pair) for pair in alike.tolist() if group[pair[0]] != group[pair[1]]}


def test_hashing_finds_what_comparing_all_pairs_finds():
    rng = np.random.default_rng(3)
    base = rng.normal(size=(1200, 64)) + 2 * rng.normal(size=64)  # all somewhat alike
    near = base[:300] + rng.normal(size=(300, 64)) * 0.15
    vectors = np.concatenate([base, near]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    group = rng.integers(0, 3, len(vectors))
    codes = signatures.encode(vectors, signatures.directions(64))
    found = signatures.alike(vectors, codes, group, 0.97)
    expected = pairs_by_brute_force(vectors, group, 0.97)
    assert len(expected) > 150
    got = set(map(tuple, found.tolist()))
    assert got <= pairs_by_brute_force(vectors, group, 0.969)
    assert len(expected - got) <= 0.01 * len(expected)


def test_a_crowd_of_the_same_code_does_not_cost_its_square():
    vectors = np.zeros((4_000, 4), np.float16)
    vectors[:, 0] = 1
    group = np.arange(4_000) % 2
    codes = signatures.encode(vectors[:1], signatures.directions(4)).repeat(4_000, axis=1)
    found = signatures.alike(vectors, codes[:2], group, 0.97)
    assert len(found) < 4_000 * signatures.WINDOW  # of 4 million
    assert (group[found[:, 0]] != group[found[:, 1]]).all()


def test_two_equal_images_of_the_aerial_set_lie_in_queries_and_gallery(shared_data, tmp_path):
    aid = shared_data / "aid"
    archive = image_folder.open_archive(aid / "aid-128px-200-per-class.tar", aid / "split.csv")
    items = [item for item in archive.items if "Industrial" in item.id]
    chosen = Archive(archive.schema, tuple(items), archive.files, archive.read)
    settings = Prepare(workers=1)
    artifacts.run_stage(tmp_path / "r", {}, {}, lambda path: prepare(chosen, path, settings))
    report = find_near_duplicates(open_records(tmp_path / "r"), "rgb")
    (pair,) = report.pairs
    assert pair.is_exact
    assert [name.rsplit("/")[-1] for name in pair.ids] == [
        "industrial_205.jpg",
        "industrial_203.jpg",
    ]
