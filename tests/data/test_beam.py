"""A Beam pipeline writes the bytes that one process writes."""

import dataclasses
import errno
import pathlib
import sys
import tarfile

import fake_archive
import numpy as np
import pytest
from PIL import Image

from rejepa_jax.config import Prepare
from rejepa_jax.data import tfrecord
from rejepa_jax.data.archives import image_folder
from rejepa_jax.data.beam import prepare_with_beam
from rejepa_jax.data.prepare import prepare
from rejepa_jax.types import ConfigError, DataError

SETTINGS = Prepare(workers=1, shard_records=4, max_bad_fraction=0.2)
THREADS = ["--runner=DirectRunner"]
PROCESSES = [*THREADS, "--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@pytest.fixture
def beam(monkeypatch):
    """Beam, whose processes find the modules of these tests."""
    pytest.importorskip("apache_beam", reason="needs Apache Beam (extra `beam`)")
    tests = pathlib.Path(fake_archive.__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{tests}:{tests.parent}")


@pytest.fixture
def damaged(tmp_path):
    """Thirteen places, one of which cannot be used; what reading takes beside files is JSON."""
    archive = fake_archive.write_archive(tmp_path / "archive", size=6)
    (tmp_path / "archive" / "008.s2").unlink()
    facts = {"box": (1, 2.5), "time": None}
    items = tuple(dataclasses.replace(item, facts=facts, place="é") for item in archive.items)
    return dataclasses.replace(archive, items=items)


def pictures(tmp_path):
    """Twenty pictures of two classes in a tar."""
    rng = np.random.default_rng(0)
    with tarfile.open(tmp_path / "pictures.tar", "w") as tar:
        for number in range(20):
            path = tmp_path / "picture.png"
            Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)
            tar.add(path, f"pictures/{'ab'[number % 2]}/{number}.png")
    return image_folder.open_archive(tmp_path / "pictures.tar")


def output(tmp_path, name):
    (tmp_path / name).mkdir()
    return tmp_path / name


def contents(directory):
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


@pytest.mark.interop
@pytest.mark.usefixtures("beam")
@pytest.mark.parametrize("options", [THREADS, PROCESSES], ids=["threads", "processes"])
def test_beam_and_one_process_write_the_same_bytes(damaged, tmp_path, options):
    local, beamed = output(tmp_path, "local"), output(tmp_path, "beamed")
    expected = prepare(damaged, local, SETTINGS)
    assert expected.info["quarantined"] == 1
    assert prepare_with_beam(damaged, beamed, SETTINGS, options) == expected
    assert contents(beamed) == contents(local)


@pytest.mark.interop
@pytest.mark.usefixtures("beam")
def test_beam_reads_a_tar_and_writes_only_shards_that_are_not_there(tmp_path):
    local, beamed, archive = output(tmp_path, "a"), output(tmp_path, "b"), pictures(tmp_path)
    expected = prepare(archive, local, SETTINGS)
    prepare(archive, beamed, SETTINGS)
    lost = "image_folder-gallery.tfrecord-00002-of-00004"
    (beamed / lost).unlink()
    kept = {path.name: path.stat().st_ino for path in beamed.glob("*.tfrecord-*") if path.is_file()}
    assert prepare_with_beam(archive, beamed, SETTINGS, THREADS) == expected
    assert contents(beamed) == contents(local)
    rewritten = {name for name, inode in kept.items() if (beamed / name).stat().st_ino != inode}
    assert rewritten == {f"{lost}.index.npy"}


@pytest.mark.interop
@pytest.mark.usefixtures("beam")
def test_full_disk_in_a_worker_and_an_unknown_runner_are_refused(damaged, tmp_path, monkeypatch):
    directory = output(tmp_path, "out")
    with pytest.raises(ConfigError, match="Unexpected pipeline runner: Nope"):
        prepare_with_beam(damaged, directory, SETTINGS, ["--runner=Nope"])

    def write_shard(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tfrecord, "write_shard", write_shard)
    with pytest.raises(DataError, match=r"No space left on device, .* make room and run again"):
        prepare_with_beam(damaged, directory, SETTINGS, THREADS)


def test_without_beam_it_is_said_what_to_install(damaged, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ConfigError, match=r"install rejepa_jax\[beam\]"):
        prepare_with_beam(damaged, output(tmp_path, "out"), SETTINGS, THREADS)
