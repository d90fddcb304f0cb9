"""A finished run in miniature, with every artefact that the page reads."""

import functools
import json
import pathlib
import tempfile

import numpy as np
from flax import nnx
from toys import filled

from rejepa_jax import artifacts
from rejepa_jax.data import examples, tfrecord
from rejepa_jax.data.preprocess import Preprocess, SensorInput
from rejepa_jax.models.vit import Encoder, EncoderSpec
from rejepa_jax.retrieval import compact
from rejepa_jax.retrieval.embeddings import schema, writing
from rejepa_jax.retrieval.encoder import Bundle, save_bundle
from rejepa_jax.retrieval.forms import unit
from rejepa_jax.retrieval.metrics.evaluating import Task

CLASSES = ("<script>alert(1)</script>", "Fields & 'meadows'", 'Water "body"')
LABELS = {  # of the records in row order
    "gallery": [(0,), (1,), (2,), (0, 1), ()],
    "query": [(0, 1), (2,), ()],
}
CORNERS = np.stack(np.meshgrid([0, 255], [0, 255], [0, 255], indexing="ij"), -1)
COLOURS = CORNERS.reshape(8, 3).astype(np.uint8)  # each record is one flat colour of its own
QUERIES = np.array([5, 6, 7])
HITS = np.array([[3, 0, 2, 4], [0, 2, 1, 3], [4, 1, 0, 2]])
SCORES = np.array([[0.9, 0.8, 0.7, -0.25], [0.5, 0.4, 0.3, 0.2], [0.6, 0.5, 0.4, 0.3]], np.float32)
VECTORS = unit(np.random.default_rng(0).normal(size=(8, 16)))
SIZES = {"image_size": 8, "patch_size": 2, "embed_dim": 8, "depth": 2, "num_heads": 2}
SPEC = EncoderSpec(bands=3, mlp_ratio=2.0, dtype="float32", **SIZES)
SETTINGS = {"method": "rejepa", "seed": 7, "data": {"bands": [], "sensor": "rgb"}}


def example_id(row):
    """The id of a record: markup if nobody escapes it."""
    return f'<b id="r{row}">&amp;{row}.jpg'


def make_example(row, labels):
    image = np.broadcast_to(COLOURS[row], (8, 8, 3)).copy()
    return examples.Example(example_id(row), {"rgb": image}, labels, f"archive/{row}.jpg")


def write_records(directory):
    schema = examples.Schema(
        "tiny", {"rgb": examples.Sensor(("red", "green", "blue"), "uint8", 8, 8)}, CLASSES
    )
    splits, row = {}, 0
    for split, labels in LABELS.items():
        made = [make_example(row + place, one) for place, one in enumerate(labels)]
        tfrecord.write_shard(directory / split, (examples.encode(e, schema) for e in made))
        shard = {"file": split, "records": len(made)}
        splits[split] = {"records": len(made), "shards": [shard]}
        row += len(made)
    artifacts.write_json(directory / "schema.json", schema.to_json())
    return artifacts.Built({"splits": splits, "quarantined": 17})


def score(value, margin=0.04):
    return {"value": value, "low": value - margin, "high": value + margin}


def table_line(descriptor, form, value):
    names = ("f1_micro_sets", "f1_pair_mean", "precision_at_k")
    scores = {name: score(value - 0.01 * place) for place, name in enumerate(names)}
    return {"descriptor": descriptor, "form": form, **scores}


def make_table(target=0.61234, statistics=0.52, patches=0.41, encoder="target"):
    searched = "encoder" if encoder == "encoder" else f"{encoder} encoder"
    return {
        "k": 4,
        "queries": {"split": "query", "images": 3},
        "gallery": {"split": "gallery", "images": 5},
        "encoder": encoder,
        "rows": [
            table_line("random ranking", "", 0.3),
            table_line("image statistics", "plain", statistics - 0.1),
            table_line("image statistics", "z-scored", statistics),
            table_line("ZCA patches", "plain", patches - 0.1),
            table_line("ZCA patches", "whitened", patches),
            table_line(searched, "plain", target),
            table_line(searched, "z-scored", 0.1),
            table_line("untrained encoder", "plain", 0.4),
        ],
    }


def log_line(step):
    losses = {"loss": 1 / step, "prediction_loss": 0.5 / step, '<b id="metric">': 1.0}
    return {"step": step, **losses, "ema_momentum": 0.99}


def class_lines():
    """What `per_class.json` says; the first class is the worst, and no query has the last."""
    measures = ("precision_at_k", "recall_at_k", "ap_at_k")
    values = [(0.25, 0.1, 0.2), (0.5, 0.3, 0.45), (None, None, None)]
    return [
        {"class": name, "queries": 2 if cells[0] else 0, "relevant": 3 - place}
        | {measure: cell and score(cell) for measure, cell in zip(measures, cells, strict=True)}
        for place, (name, cells) in enumerate(zip(CLASSES, values, strict=True))
    ]


@functools.cache
def compact_text(k):
    """What the evaluation of these vectors says of smaller ones."""
    labels = np.array([[i in one for i in range(3)] for part in LABELS.values() for one in part])
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory)
        compact.write(path, VECTORS[5:], VECTORS[:5], Task(labels[5:], labels[:5]), k)
        return (path / "compact.json").read_text()


def write_evaluation(directory, table, is_whole, hits):
    """Writes an evaluation; one that is not whole tells of no classes and no smaller forms."""
    artifacts.write_json(directory / "table.json", table)
    np.savez(directory / "ranking.npz", queries=QUERIES, hits=hits, scores=SCORES)
    if is_whole:
        (directory / "compact.json").write_text(compact_text(table["k"]))
        artifacts.write_json(directory / "per_class.json", {"k": 4, "classes": class_lines()})
    return artifacts.Built({"table": table})


def write_embeddings(directory):
    """Writes the vectors of all records, in their order."""
    splits = [(split, labels) for split, of_split in LABELS.items() for labels in of_split]
    part = schema.EmbeddingPart(
        first_row=0,
        ids=[example_id(row) for row in range(8)],
        vectors=VECTORS,
        sensor=["rgb"] * 8,
        labels=[[CLASSES[label] for label in labels] for _, labels in splits],
        split=[split for split, _ in splits],
    )
    writing.write_part(directory / schema.part_name(0, 1), part, {"fingerprint": "f" * 64})
    return artifacts.Built({"rows": 8})


@functools.cache
def make_bundle(name, size=8):
    """A toy encoder of 16 tokens that sees images at `size` pixels."""
    spec = EncoderSpec(**vars(SPEC) | {"image_size": size, "patch_size": size // 4})
    encoder = filled(lambda: Encoder(spec, rngs=nnx.Rngs(0)), seed=len(name))
    given = SensorInput((0, 1, 2), (120.0, 130.0, 140.0), (60.0, 50.0, 40.0), None)
    record = examples.Sensor(("red", "green", "blue"), "uint8", 8, 8)
    return Bundle(name, encoder, Preprocess(size, {"rgb": given}), "rgb", record, "mean", 4)


def write_encoders(directory, names):
    for name in names:
        save_bundle(make_bundle(name), directory / name)
    return artifacts.Built({"encoders": list(names)})


def write_file(name, text, info):
    def build(directory):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
        return artifacts.Built(info)

    return build


def make_run(run: pathlib.Path, table, layout, **evaluation) -> pathlib.Path:
    """Writes every stage of a run, each from the one before it."""

    def stage(name, settings, sources, build):
        inputs = {source: artifacts.load(run / source)["fingerprint"] for source in sources}
        artifacts.run_stage(run / name, settings, inputs, build)

    log = "".join(json.dumps(log_line(step)) + "\n" for step in (1, 2, 4))
    facts = {"kind": "exact", "rows": 8, "dim": 32, "recall_at_10": 0.98765}
    names = (table["encoder"], "untrained")
    stage("records", {"layout": layout}, (), write_records)
    stage(
        "checkpoints",
        SETTINGS,
        ("records",),
        write_file("metrics.jsonl", log, {"steps": 4, "images": 16000, "final": {}}),
    )
    stage("encoders", {}, ("checkpoints",), lambda partial: write_encoders(partial, names))
    stage("embeddings", {}, ("encoders", "records"), write_embeddings)
    stage("index", {}, ("embeddings",), write_file("index.json", "{}", facts))
    stage(
        "evaluation",
        {},
        ("encoders", "records"),
        lambda partial: write_evaluation(partial, table, **evaluation),
    )
    return run
