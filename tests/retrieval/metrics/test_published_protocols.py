"""Figures by the procedures of papers, on descriptors read from a file, and on real images."""

import csv
import tarfile

import numpy as np
import PIL.Image
import pytest
from metric_cases import values

from rejepa_jax.retrieval.metrics.evaluating import Task, evaluate, measure
from rejepa_jax.retrieval.metrics.excluded import same


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Descriptors of two splits that follow 19-class label sets of one to five labels."""
    rng = np.random.default_rng(11)
    sizes = rng.integers(1, 6, 260)
    labels = (
        np.argsort(rng.random((260, 19)) * np.linspace(1, 4, 19), 1).argsort(1) < sizes[:, None]
    )
    labels[[3, 100, 250]] = False  # BigEarthNet has images without a label of the 19
    features = labels @ rng.normal(size=(19, 32)) + 0.8 * rng.normal(size=(260, 32))
    path = tmp_path_factory.mktemp("csmae") / "features.npz"
    np.savez(path, features=features.astype(np.float32), labels=labels, is_val=np.arange(260) < 90)
    with np.load(path) as file:
        yield file["features"], file["labels"], file["is_val"]


def nearest_by_distance(features, is_query, k):
    """L2-normalises and looks through an L2 index: as CSMAE does with faiss."""
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    queries, gallery = features[is_query], features[~is_query]
    distances = ((queries[:, None, :] - gallery[None, :, :]) ** 2).sum(axis=2)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def test_f1_of_csmae_by_its_own_procedure(saved):
    """Mean over k, then over queries, then the harmonic mean."""
    features, labels, is_val = saved
    ranking = nearest_by_distance(features, is_val, 10)
    query, archive = labels[is_val], labels[~is_val]
    precisions, recalls = [], []
    for labels_of_query, hits in zip(query, ranking, strict=True):
        p = r = 0.0
        for hit in hits:
            both = np.logical_and(labels_of_query, archive[hit]).sum()
            p += both / archive[hit].sum() if archive[hit].sum() else 0.0
            r += both / labels_of_query.sum() if labels_of_query.sum() else 0.0
        precisions.append(p / 10)
        recalls.append(r / 10)
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    found = values((query, archive, ranking))
    assert found["precision_sets"] == pytest.approx(precision, abs=1e-12)
    assert found["recall_sets"] == pytest.approx(recall, abs=1e-12)
    expected = 2 * precision * recall / (precision + recall)
    assert found["f1_micro_sets"] == pytest.approx(expected, abs=1e-12)
    assert 0.5 < expected < 0.95
    assert expected > found["f1_pair_mean"] + 0.01  # what CR-JEPA calls the same


def test_f1_of_cr_jepa_by_its_own_procedure(saved):
    """One index of all images, each of which queries the others; mean F1 of pairs at 5."""
    features, labels, _ = saved
    ranking = nearest_by_distance(np.concatenate([features] * 2), np.arange(520) < 260, 6)
    scores = []
    for number, hits in enumerate(ranking):
        for hit in [hit for hit in hits if hit != number][:5]:
            query, result = set(np.flatnonzero(labels[number])), set(np.flatnonzero(labels[hit]))
            total = len(query) + len(result)
            scores.append(2 * len(query & result) / total if total else 0.0)
    ids = [str(n) for n in range(260)]
    columns = measure(Task(labels, labels, excluded=same((ids, ids))), ranking, 5)
    assert columns["f1_pair_mean"].mean() == pytest.approx(np.mean(scores), abs=1e-12)


def aid_split(shared_data):
    with open(shared_data / "aid" / "split.csv") as file:
        rows = list(csv.DictReader(file))
    names = np.array([row["label"] for row in rows])
    labels = names[:, None] == np.unique(names)[None, :]
    return rows, labels, np.array([row["split"] == "query" for row in rows])


def z_scored_ranking(features, is_query):
    features = (features - features[~is_query].mean(0)) / (features[~is_query].std(0) + 1e-6)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return np.argsort(-(features[is_query] @ features[~is_query].T), 1, kind="stable")[:, :10]


def test_chance_on_aid_is_as_published(shared_data):
    _, labels, is_query = aid_split(shared_data)
    features = np.random.default_rng(0).normal(size=(len(labels), 64))
    ranking = z_scored_ranking(features, is_query)
    scores = evaluate(labels[is_query], labels[~is_query], ranking)
    assert round(scores["f1_micro_sets"].value, 3) == 0.033
    assert scores["f1_micro_sets"] == pytest.approx(scores["precision_at_k"], abs=1e-12)


@pytest.mark.slow
def test_raw_pixels_on_aid_score_as_published_with_the_same_interval(shared_data):
    rows, labels, is_query = aid_split(shared_data)
    with tarfile.open(shared_data / "aid" / "aid-128px-200-per-class.tar") as tar:
        images = [PIL.Image.open(tar.extractfile(row["name"])).convert("RGB") for row in rows]
        images = np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255
    pixels = images.reshape(len(rows), 16, 8, 16, 8, 3).mean((2, 4)).reshape(len(rows), -1)
    ranking = z_scored_ranking(pixels, is_query)
    score = evaluate(labels[is_query], labels[~is_query], ranking)["precision_at_k"]
    assert np.round(score, 3).tolist() == [0.193, 0.177, 0.209]
