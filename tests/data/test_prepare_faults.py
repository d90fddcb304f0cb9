"""What goes wrong while an archive becomes records: what is said, what stays, how it goes on."""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time

import fake_archive
import fsspec
import numpy as np
import pytest
from PIL import Image

from rejepa_jax import artifacts
from rejepa_jax.config import Prepare
from rejepa_jax.data import examples, prepare, tfrecord
from rejepa_jax.data.archives import image_folder
from rejepa_jax.data.archives.files import ArchiveFiles
from rejepa_jax.data.pipeline import open_records
from rejepa_jax.storage import mirror
from rejepa_jax.types import DataError

TESTS = pathlib.Path(fake_archive.__file__).parent
COUNTS = {"train": 18, "test": 6}
SETTINGS = Prepare(workers=1, shard_records=4, max_bad_fraction=0.5)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def contents(directory):
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


def reasons(directory):
    lines = (directory / prepare.QUARANTINE).read_text().splitlines()
    return {entry["id"]: entry["reason"] for entry in map(json.loads, lines)}


# --- killed


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The manifest's files, with their hashes, of an uninterrupted run in one process."""
    return fake_archive.prepare_slowly(tmp_path_factory.mktemp("whole"), COUNTS, workers=1)["files"]


def test_killed_worker_is_reported_and_the_next_run_writes_the_same_bytes(files, tmp_path):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "deadly").write_text("place021")
    message = r"a worker process was ended from outside.*\d of 7 shards are finished and kept"
    with pytest.raises(DataError, match=message):
        fake_archive.prepare_slowly(tmp_path, COUNTS)
    finished = [path.name for path in (tmp_path / "records.partial" / "shards").iterdir()]
    assert "toy-test.tfrecord-00000-of-00002.json" in finished
    assert not (tmp_path / "records").exists()
    (tmp_path / "archive" / "deadly").unlink()
    assert fake_archive.prepare_slowly(tmp_path, COUNTS, workers=1)["files"] == files


def start(root):
    """Starts a preparation by two workers as a process of its own."""
    call = f"fake_archive.prepare_slowly(pathlib.Path({str(root)!r}), {COUNTS})"
    paths = {"PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    return subprocess.Popen(
        [sys.executable, "-c", f"import fake_archive, pathlib; {call}"], env=os.environ | paths
    )


def is_running(pid):
    with contextlib.suppress(FileNotFoundError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def kill(process, root):
    """Kills a preparation; its workers end by themselves."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    workers = [int(path.name[4:]) for path in (root / "archive").glob("pid-*")]
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_running, workers))


def test_killed_preparation_leaves_no_worker_and_goes_on_to_the_same_bytes(files, tmp_path):
    process, notes = start(tmp_path), tmp_path / "records.partial" / "shards"
    while process.poll() is None and not any(notes.glob("*.json")):
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    kill(process, tmp_path)
    assert fake_archive.prepare_slowly(tmp_path, COUNTS, workers=1)["files"] == files


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_again_and_again_it_still_writes_the_same_bytes(files, tmp_path, seed):
    rng, killed = random.Random(seed), 0
    for _ in range(5):
        for path in (tmp_path / "archive").glob("pid-*"):
            path.unlink()
        process = start(tmp_path)
        while process.poll() is None and not any((tmp_path / "archive").glob("pid-*")):
            time.sleep(0.005)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.5))  # from the first shards to the metadata after them
        killed += process.poll() is None
        kill(process, tmp_path)
    assert killed
    assert fake_archive.prepare_slowly(tmp_path, COUNTS)["files"] == files
    places = open_records(tmp_path / "records").read_examples(range(24))
    assert [place.id for place in places] == [f"place{n:03d}" for n in range(24)]


# --- full disk


def test_too_small_a_disk_is_refused_before_anything_is_written(out, tmp_path, monkeypatch):
    archive = fake_archive.write_archive(tmp_path / "archive", COUNTS)
    usage = shutil.disk_usage(out)._replace(free=64_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    # 24 records of 12 x 12 pixels of 3 uint16 and 2 float32.
    message = r"out: got 0\.06 GB of free disk space, expected .* GB for 24 records of 2016 bytes"
    with pytest.raises(DataError, match=message):
        prepare.prepare(archive, out, SETTINGS)
    assert contents(out) == {}


def test_shards_that_are_there_need_no_space(out, tmp_path, monkeypatch):
    archive = fake_archive.write_archive(tmp_path / "archive", COUNTS)
    prepare.prepare(archive, out, SETTINGS)
    before = contents(out)
    usage = shutil.disk_usage(out)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    prepare.prepare(archive, out, SETTINGS)
    assert contents(out) == before


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 300 kB; gives its folder, and what makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(folder)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    grow = ["mount", "-o", "remount,size=3m", str(folder)]
    yield folder, lambda: subprocess.run(grow, check=True)
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_keeps_what_is_finished_and_goes_on_with_more_room(
    out, tmp_path, small_disk, monkeypatch
):
    monkeypatch.setattr(prepare, "_check_space", lambda *_: None)  # filled by others meanwhile
    archive = fake_archive.write_archive(tmp_path / "archive", COUNTS, size=40)
    directory, grow = small_disk[0] / "records", small_disk[1]
    directory.mkdir()
    message = r"No space left on device, expected to write it; 0 MB are free there: make room"
    with pytest.raises(DataError, match=message):
        prepare.prepare(archive, directory, SETTINGS)
    finished = {path.stem: (directory / path.stem).stat() for path in directory.glob("shards/*")}
    assert 1 <= len(finished) < 7
    assert not any((directory / "unfinished").iterdir())  # the room it took is free again
    grow()
    prepare.prepare(archive, directory, SETTINGS)
    prepare.prepare(archive, out, SETTINGS)
    assert contents(directory) == contents(out)
    assert all((directory / name).stat().st_ino == was.st_ino for name, was in finished.items())


@pytest.mark.parametrize("fault", [OSError(errno.EDQUOT, "Disk quota exceeded"), OSError("3 of 9")])
def test_disk_that_refuses_a_shard_is_named(out, tmp_path, monkeypatch, fault):
    def refuse(_):
        raise fault

    archive = fake_archive.write_archive(tmp_path / "archive", COUNTS)
    monkeypatch.setattr(tfrecord, "_sync", refuse)
    with pytest.raises(DataError, match=r"toy-test.*00000-of-00002: got .*(quota|3 of 9).*free"):
        prepare.prepare(archive, out, SETTINGS)


# --- items


def test_an_id_that_is_there_twice_is_refused_with_both_sources(out, tmp_path):
    archive = fake_archive.write_archive(tmp_path / "archive", COUNTS)
    twin = dataclasses.replace(archive.items[-1], id="place002")
    archive = dataclasses.replace(archive, items=(*archive.items[:-1], twin))
    message = "'place002': got the id twice, from test: 002.*s2.* and from train: 023.*s2"
    with pytest.raises(DataError, match=message):
        prepare.prepare(archive, out, SETTINGS)
    assert contents(out) == {}


def test_a_reader_that_gives_another_id_is_found_out(out, tmp_path):
    def read(files, item, schema):
        place = fake_archive.read(files, item, schema)
        return dataclasses.replace(place, id="other") if item.id == "place007" else place

    archive = fake_archive.write_archive(tmp_path / "archive", COUNTS)
    prepare.prepare(dataclasses.replace(archive, read=read), out, SETTINGS)
    assert list(reasons(out)) == ["place007"]
    assert "got the id other" in reasons(out)["place007"]


def test_images_without_a_measurement_are_kept_and_counted_not_numbers_are_left_out(out, tmp_path):
    def read(files, item, schema):
        place = fake_archive.read(files, item, schema)
        s1, s2 = (place.images[sensor].copy() for sensor in ("s1", "s2"))
        if item.id == "place001":
            s2[:] = 0  # no measurement anywhere
        if item.id == "place002":
            s1[..., 1] = -7.5  # constant
        if item.id == "place003":
            s1[0, 0, 0] = np.nan
        if item.id == "place004":
            s1[0, 0, 1] = -np.inf
        return dataclasses.replace(place, images={"s1": s1, "s2": s2})

    archive = fake_archive.write_archive(tmp_path / "archive", COUNTS)
    built = prepare.prepare(dataclasses.replace(archive, read=read), out, SETTINGS)
    assert (built.info["splits"]["test"]["records"], built.info["quarantined"]) == (4, 2)
    for name in ("place003", "place004"):
        assert "got 1 values of 288 NaN or infinite for sensor 's1'" in reasons(out)[name]
    found = summary(out)["splits"]["test"]["sensors"]
    assert (found["s2"]["constant"], found["s2"]["constant_ids"]) == ([1, 1, 1], ["place001"])
    assert (found["s1"]["constant"], found["s1"]["constant_ids"]) == ([0, 1], ["place002"])
    assert min(found["s2"]["missing"]) > 0.25  # one of four
    assert found["s1"]["missing"] == [0, 0]


# --- records in a bucket


def test_shards_go_to_the_bucket_as_they_are_finished_and_another_machine_goes_on(
    out, tmp_path, monkeypatch
):
    monkeypatch.setenv(mirror.CACHE, str(tmp_path / "cache"))
    fsspec.filesystem("memory").store.clear()
    archive = fake_archive.write_archive(tmp_path / "archive", COUNTS)
    seen, stop = [], 13

    def read(files, item, schema):
        if len(seen) == stop:
            raise KeyboardInterrupt
        seen.append(item.id)
        return fake_archive.read(files, item, schema)

    def make(reader):
        directory = mirror.open_artefact("memory://sets/toy/records", "*.tfrecord-?????-of-?????")
        ours = dataclasses.replace(archive, read=reader)
        build = functools.partial(prepare.prepare, ours, settings=SETTINGS)
        return directory, artifacts.run_stage(directory, {}, {}, build)

    with pytest.raises(KeyboardInterrupt):
        make(read)
    shutil.rmtree(tmp_path / "cache")
    stop = None
    directory, manifest = make(read)
    assert seen[13] == "place010"  # shards of 4, 2 and 4 places were finished
    prepare.prepare(archive, out, SETTINGS)
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in contents(out).items()}
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == hashes
    assert not list(directory.glob("*.tfrecord-?????-of-?????"))  # not on this machine


# --- folders of pictures


def write_pictures(root, names):
    rng = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)).save(path)


def ids(directory):
    names = (path for path in sorted(directory.glob("*.tfrecord-*")) if path.suffix != ".npy")
    schema = examples.Schema.from_json(artifacts.read_json(directory / prepare.SCHEMA))
    records = (record for path in names for record in tfrecord.scan(path))
    return {examples.decode(record, schema).id for record in records}


def test_names_of_any_kind_go_through_and_loops_of_links_are_not_followed(out, tmp_path):
    deep = "/".join(["folder" * 20] * 8)  # 1,000 characters
    names = ["città/東京 🛰.png", "città/a b  c.PNG", f"{deep}/x.png", "città/é;'\"&<.png"]
    root = tmp_path / "archive"
    write_pictures(root, names)
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "città" / "up").symlink_to("..", target_is_directory=True)
    (root / "città" / "self.png").symlink_to("self.png")
    prepare.prepare(image_folder.open_archive(root), out, SETTINGS)
    assert ids(out) == set(names)
    assert list(reasons(out)) == ["città/self.png"]  # a link that leads nowhere
    assert "a readable file" in reasons(out)["città/self.png"]


def test_files_that_vanish_or_change_after_they_were_listed_are_left_out_by_name(out, tmp_path):
    root = tmp_path / "archive"
    write_pictures(root, [f"a/{number}.png" for number in range(8)])
    archive = image_folder.open_archive(root)
    (root / "a" / "1.png").unlink()
    Image.new("RGB", (5, 4)).save(root / "a" / "2.png")
    (root / "a" / "3.png").write_bytes((root / "a" / "4.png").read_bytes()[:-50])
    prepare.prepare(archive, out, SETTINGS)
    assert ids(out) == {f"a/{number}.png" for number in (0, 4, 5, 6, 7)}
    found = reasons(out)
    assert "No such file" in found["a/1.png"]
    assert "got uint8 (4, 5, 3), expected uint8 (4, 4, 3)" in found["a/2.png"]
    assert "do not decode" in found["a/3.png"]


def test_tar_that_is_replaced_while_it_is_read_is_noticed(out, tmp_path):
    root, path = tmp_path / "archive", tmp_path / "archive.tar"
    write_pictures(root, [f"a/{number}.png" for number in range(8)])
    with tarfile.open(path, "w") as tar:
        tar.add(root, "archive")
    archive = image_folder.open_archive(path)
    content = path.read_bytes()
    path.write_bytes(content[512:])  # every member now lies elsewhere
    message = r"of 8 images cannot be used.*a/0\.png: got .* bytes that do not decode"
    with pytest.raises(DataError, match=message):
        prepare.prepare(archive, out, SETTINGS)
    path.write_bytes(content)
    prepare.prepare(dataclasses.replace(archive, files=ArchiveFiles(path)), out, SETTINGS)
    assert len(ids(out)) == 8


def test_empty_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: got no image, expected <Class>/<name>"):
        image_folder.open_archive(tmp_path / "empty")
