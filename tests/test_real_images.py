"""The road and the protocol on real images, which only a development checkout has beside it."""

import json

import numpy as np
import pytest
import road

from rejepa_jax import artifacts
from rejepa_jax.data.archives import image_folder
from rejepa_jax.retrieval import baselines, exact, metrics


def test_image_statistics_score_what_the_frozen_aid_protocol_says(shared_data):
    aid = shared_data / "aid"
    archive = image_folder.open_archive(aid / "aid-128px-200-per-class.tar", str(aid / "split.csv"))
    rows, labels, is_query = [], [], []
    for start in range(0, len(archive.items), 200):
        items = archive.items[start : start + 200]
        read = [archive.read(archive.files, item, archive.schema) for item in items]
        images = np.stack([example.images["rgb"] for example in read])
        rows.append(np.asarray(baselines.image_statistics(images, None)))
        labels += [example.labels[0] for example in read]
        is_query += [item.split == "query" for item in items]
    vectors, is_query = np.concatenate(rows), np.array(is_query)
    one_hot = np.eye(len(archive.schema.classes), dtype=bool)[labels]
    queries, gallery = vectors[is_query], vectors[~is_query]
    assert (len(queries), len(gallery)) == (1200, 4800)

    def score(queries, gallery):
        _, ranking = exact.top_k(queries, gallery, 10)
        return metrics.evaluate(one_hot[is_query], one_hot[~is_query], ranking)

    z_scored = score(baselines.z_scored(queries, gallery), baselines.z_scored(gallery, gallery))
    plain = score(baselines.unit(queries), baselines.unit(gallery))
    for name in ("precision_at_k", "f1_micro_sets", "f1_pair_mean"):  # one label: all the same
        assert round(z_scored[name].value, 3) == 0.252
        assert round(plain[name].value, 3) == 0.236
    assert z_scored["precision_at_k"].low == pytest.approx(0.236, abs=1.5e-3)
    assert z_scored["precision_at_k"].high == pytest.approx(0.266, abs=1.5e-3)


@pytest.mark.parametrize(("sensor", "bands"), [("s1", 2), ("s2", 12)])
def test_whole_road_on_real_bigearthnet_patches(shared_data, tmp_path, sensor, bands):
    archive = shared_data / "bigearthnet" / "bigearthnet-v2-reencoded.tar"
    flags = road.arguments(
        tmp_path / "run",
        "ben14k",
        data__archive=archive,
        data__selection="all",
        data__sensor=sensor,
        train__batch_size=16,
        train__steps=2,
        eval__k=3,
    )
    done = road.run("main", *flags)
    assert done.returncode == 0, done.stderr
    assert "fewer than train.batch_size = 16" in done.stderr
    splits = artifacts.load(tmp_path / "run" / "records")["info"]["splits"]
    counts = {name: split["records"] for name, split in splits.items()}
    assert counts == {"train": 8, "validation": 8, "test": 8}
    bundle = json.loads((tmp_path / "run" / "encoders" / "target" / "bundle.json").read_text())
    assert bundle["encoder"]["bands"] == bands
    table = json.loads((tmp_path / "run" / "evaluation" / "table.json").read_text())
    assert table["k"] == 3
    assert table["queries"] == {"split": "validation", "images": 8}
    assert table["gallery"] == {"split": "test", "images": 8}
