"""A disk that is full at any moment ends a stage with a clear error, and with room it goes on."""

import os
import shutil
import subprocess

import pytest
import road

from rejepa_jax import artifacts

pytestmark = pytest.mark.slow
MADE = {"train": ["checkpoints"], "export": ["encoders", "embeddings"], "index": ["index"]}
SIZE = 24 << 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    done = road.run("main", *road.arguments(run, stage="prepare,train,export,index"))
    assert done.returncode == 0, done.stderr
    shutil.rmtree(run / "archive")
    return run


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MB, where this may be had."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place, but):
    """Leaves so many bytes free."""
    free = shutil.disk_usage(place).free
    with (place / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(free - but, 1))


# As many pages are free as are written up to some file of the stage, early or late.
@pytest.mark.parametrize(
    ("stage", "pages"),
    [("train", 4), ("train", 45), ("train", 80), ("export", 4), ("export", 20), ("export", 60),
     ("index", 1), ("index", 2), ("index", 3)],
)  # fmt: skip
def test_stage_on_a_full_disk_ends_with_3_and_goes_on_with_more_room(
    whole, small_disk, stage, pages
):
    run, stages = small_disk / "run", list(MADE)
    made = [name for earlier in stages[: stages.index(stage)] for name in MADE[earlier]]
    for name in ["records", *made]:
        shutil.copytree(whole / name, run / name)
    fill(small_disk, pages * 4096)
    done = road.run("main", *road.arguments(run, stage=stage))
    assert done.returncode == 3, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr.rpartition("No space left")[2]
    (small_disk / "filler").unlink()
    done = road.run("main", *road.arguments(run, stage=stage))
    assert done.returncode == 0, done.stderr
    for name in MADE[stage]:
        assert artifacts.verify(run / name) == []
