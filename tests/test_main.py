import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import orbax.checkpoint as ocp
import pytest
import rasterio
import road
from pyarrow import parquet

from rejepa_jax import artifacts
from rejepa_jax.retrieval.encoder import load_bundle
from rejepa_jax.training.orbax_items import flat

ARTEFACTS = (
    "archive",
    "records",
    "checkpoints",
    "encoders",
    "embeddings",
    "index",
    "evaluation",
    "report",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the whole road over a small synthetic archive, and what it printed."""
    workdir = tmp_path_factory.mktemp("road") / "run"
    return workdir, road.run("main", *road.arguments(workdir, health__every=3))


def test_whole_road_from_one_command(finished):
    workdir, done = finished
    assert done.returncode == 0, done.stderr
    for name in ARTEFACTS:
        assert artifacts.verify(workdir / name) == [], name
    assert not list(workdir.glob("*.partial"))
    assert "rejepa search" in done.stdout
    assert "report.html" in done.stdout
    assert "f1_micro_sets@10" in done.stdout


def test_table_has_every_row_that_keeps_a_number_honest(finished):
    rows = json.loads((finished[0] / "evaluation" / "table.json").read_text())["rows"]
    free = ["image statistics", "random conv features", "ZCA patches"]
    names = [*free, "colour + gradient histogram"]
    names += ["target encoder", "context encoder", "untrained encoder"]
    expected = ["random ranking", "label prior", *(name for name in names for _ in range(3))]
    assert [row["descriptor"] for row in rows] == expected
    log = (finished[0] / "checkpoints" / "metrics.jsonl").read_text().splitlines()
    measured = [line["step"] for line in map(json.loads, log) if "target/f1" in line]
    assert measured == [0, 3, 6]  # health, before the first step, every third, after the last
    for row in rows:
        score = row["f1_micro_sets"]
        assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1


def test_every_image_reaches_records_embeddings_and_index(finished):
    workdir = finished[0]
    splits = artifacts.load(workdir / "records")["info"]["splits"]
    counts = {name: split["records"] for name, split in splits.items()}
    assert counts == {"train": 24, "validation": 10, "test": 14}
    assert artifacts.load(workdir / "embeddings")["info"]["rows"] == 48
    assert artifacts.load(workdir / "index")["info"]["rows"] == 48


def test_second_run_skips_every_stage(finished):
    workdir, _ = finished
    before = {name: (workdir / name / "manifest.json").stat().st_mtime_ns for name in ARTEFACTS}
    again = road.run("main", *road.arguments(workdir))
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("complete and unchanged, skipped") == len(ARTEFACTS)
    after = {name: (workdir / name / "manifest.json").stat().st_mtime_ns for name in ARTEFACTS}
    assert before == after


def test_run_with_other_settings_is_refused_and_nothing_is_lost(finished):
    workdir, _ = finished
    other = road.run("main", *road.arguments(workdir, train__steps=7))
    assert other.returncode == 2
    assert "train.steps: 6 -> 7" in other.stderr
    assert "Traceback" not in other.stderr
    assert all(artifacts.verify(workdir / name) == [] for name in ARTEFACTS)


def final_state(run):
    """Every array of a run's last checkpoint, by name."""
    with ocp.CheckpointManager((run / "checkpoints").absolute()) as manager:
        args = ocp.args.Composite(state=ocp.args.StandardRestore())
        return flat(manager.restore(6, args=args)["state"])


def test_trainer_killed_mid_run_resumes_to_the_same_bits(finished, tmp_path):
    whole, _ = finished
    killed = tmp_path / "run"
    killed.mkdir()
    for name in ("archive", "records"):
        shutil.copytree(whole / name, killed / name)
    flags = road.arguments(killed, stage="prepare,train,export")
    process = subprocess.Popen(
        road.command("main", *flags),
        cwd=road.ROOT,
        env=road.environment() | {"PYTHONUNBUFFERED": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    steps = killed / "checkpoints.partial"
    deadline = time.monotonic() + 240
    while not (steps / "2").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (killed / "checkpoints").exists()
    resumed = road.run("main", *flags)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed from" in resumed.stderr
    for name in ("context", "target", "untrained"):
        ours, unbroken = (load_bundle(run / "encoders" / name) for run in (killed, whole))
        assert ours.fingerprint == unbroken.fingerprint
    ours, unbroken = (final_state(run) for run in (killed, whole))
    assert ours.keys() == unbroken.keys()
    assert any(name.startswith("params/predictor/") for name in ours)
    assert any(name.startswith("opt_state/") for name in ours)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, unbroken[name], err_msg=name)
    logged = (killed / "checkpoints" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [1, 2, 3, 4, 5, 6]


QUICK = ["--config", "configs/quickstart.py"]


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)  # three seconds each to start a process


@pytest.mark.parametrize(
    ("flags", "code", "match"),
    [
        (["--config", "configs/none.py"], 2, "no such file"),
        slow([], 2, "no --config"),
        slow([*QUICK, "--stage=fly"], 2, "choose from prepare"),
        slow([*QUICK, "train.steps=7"], 2, "'train.steps=7' is no flag"),
        slow([*QUICK, "--config.train.stepz=1"], 2, "stepz"),
        ([*QUICK, "--config.model.patch_size=7"], 2, "patch_size"),
        (["--config", "configs/ben14k.py", "--config.data.archive=nowhere"], 3, "nowhere"),
        (["--config", "configs/ben14k.py", "--stage=train"], 3, "manifest.json"),
    ],
)
def test_mistakes_on_the_command_line_are_said_with_their_exit_code(tmp_path, flags, code, match):
    done = road.run("main", "--workdir", tmp_path / "run", *flags)
    assert done.returncode == code, done.stderr
    assert match in done.stderr
    assert "Traceback" not in done.stderr


def test_readme_searches_with_a_patch_of_the_quickstarts_sensor(finished):
    workdir, _ = finished
    block = (road.ROOT / "README.md").read_text().split("```bash search\n")[1].split("```")[0]
    line = block.replace(".venv/bin/rejepa", f"{sys.executable} -m rejepa_jax.cli")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line.replace("runs/quickstart", str(workdir))],
        cwd=road.ROOT,
        env=road.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].split()[:2] == ["1", "1.0000"]


@pytest.mark.slow
def test_export_of_what_was_trained_with_other_settings_is_refused(finished):
    flags = road.arguments(finished[0], stage="export", model__num_heads=4)
    done = road.run("main", *flags)
    assert done.returncode == 2
    assert "model.num_heads: 2 -> 4" in done.stderr


@pytest.mark.slow
def test_refused_settings_leave_nothing_that_hinders_the_right_ones(finished, tmp_path):
    workdir = tmp_path / "run"
    workdir.mkdir()
    for name in ("archive", "records"):
        shutil.copytree(finished[0] / name, workdir / name)
    done = road.run("main", *road.arguments(workdir, stage="train", data__sensor="rgb"))
    assert done.returncode == 2
    assert "choose one" in done.stderr
    assert not (workdir / "checkpoints.partial").exists()


def test_json_config_is_data_and_gives_the_same_run(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"data": {"layout": "image_folder", "archive": "nowhere.tar"}}))
    done = road.run("main", "--config", path, "--workdir", tmp_path / "run")
    assert done.returncode == 3
    assert "nowhere.tar" in done.stderr
    path.write_text(json.dumps({"data": {"layuot": "image_folder"}}))
    done = road.run("main", "--config", path, "--workdir", tmp_path / "run")
    assert done.returncode == 2
    assert "layuot" in done.stderr


STOPPED = """
import sys
from rejepa_jax import main, stages, types

def stop(config, run):
    raise types.Interrupted(f"stopped, strict: {config.train.strict_restore}")

stages.STAGES["prepare"] = stop
sys.exit(main.main(sys.argv))
"""


@pytest.mark.slow
def test_who_is_asked_to_stop_ends_with_75_and_strict_restore_is_a_setting(tmp_path):
    argv = ["--workdir", tmp_path / "run", *QUICK, "--strict_restore"]
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, *map(str, argv)],
        cwd=road.ROOT,
        env=road.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 75, done.stderr
    assert "stopped, strict: True" in done.stderr
    assert not (tmp_path / "run" / "lease.json").exists()


@pytest.mark.slow
def test_whole_road_on_zipped_geotiffs_of_five_bands(tmp_path):
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": 20, "height": 20, "count": 5, "dtype": "uint16"}
    with zipfile.ZipFile(tmp_path / "scenes.zip", "w") as archive:
        for number in range(20):
            place = rasterio.Affine(10, 0, 500_000 + 200 * number, 0, -10, 4_900_000)
            with rasterio.MemoryFile() as memory:
                with memory.open(**profile, crs="EPSG:32634", transform=place) as file:
                    file.write(rng.integers(1, 4000, (5, 20, 20), np.uint16))
                name = f"scenes/{'wet' if number % 2 else 'dry'}/{number}.tif"
                archive.writestr(name, bytes(memory.getbuffer()))
    archive = tmp_path / "scenes.zip"
    run = tmp_path / "run"
    flags = road.arguments(
        run, "image_folder", data__archive=archive, data__sensor="image", eval__k=3, train__steps=2
    )
    done = road.run("main", *flags)
    assert done.returncode == 0, done.stderr
    table = parquet.read_table(run / "embeddings" / "part-00000-of-00001.parquet")
    assert b"geo" in table.schema.metadata
    boxes = table["bbox"].to_pylist()
    assert all(20.9 < box["xmin"] < box["xmax"] < 21.1 for box in boxes)
    assert "5 bands: band1" in (run / "report" / "report.html").read_text()


def test_tensorflow_is_never_imported(finished):
    assert finished[1].returncode == 0
    code = (
        "import sys, rejepa_jax.main, rejepa_jax.cli;"
        "sys.exit('tensorflow' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [road.sys.executable, "-c", code], cwd=road.ROOT, env=road.environment(), check=False
    )
    assert done.returncode == 0
