"""One config over a small archive: to records in this process, and the whole road in another."""

import json
import runpy

import road

from rejepa_jax import artifacts, stages
from rejepa_jax.data.inputs import make_preprocess
from rejepa_jax.data.pipeline import open_records
from rejepa_jax.resolve import resolve

FEW = {"train__batch_size": 4, "train__steps": 1, "optim__warmup_steps": 1, "eval__k": 2}


def prepared(run, name, archive, **changes):
    """The records that a config makes, what the model sees of them, and the resolved config."""
    config = runpy.run_path(str(road.ROOT / "configs" / f"{name}.py"))["get_config"]()
    settings = {"data.archive": str(archive), "prepare.workers": 1}
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    config.update_from_flattened_dict(settings)
    resolved = resolve(config)
    stages.prepare(resolved, run)
    records = open_records(run / "records")
    splits = (resolved.data.train_split, resolved.eval.query_split, resolved.eval.gallery_split)
    assert all(len(records.rows(split)) for split in splits)
    return records, make_preprocess(records, resolved.data), resolved


def walked(run, name, archive, **changes):
    """The manifest of the records, the exported bundle and the table of scores of a toy run."""
    flags = road.arguments(run, name, data__archive=archive, **(FEW | changes))
    done = road.run("main", *flags)
    assert done.returncode == 0, done.stderr
    manifest = artifacts.load(run / "records")["info"]["splits"]
    counts = {split: entry["records"] for split, entry in manifest.items()}
    assert artifacts.load(run / "index")["info"]["rows"] == sum(counts.values())
    bundle = json.loads((run / "encoders" / "target" / "bundle.json").read_text())
    table = json.loads((run / "evaluation" / "table.json").read_text())
    return (
        counts,
        bundle["encoder"]["bands"],
        (table["queries"]["split"], table["gallery"]["split"]),
    )
