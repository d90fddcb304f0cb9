"""Opening what is current: what does not belong together, is damaged, or changes meanwhile."""

import shutil
import threading

import pytest
import searched_run
from searched_run import MARK, ids, rows_of

from rejepa_jax import artifacts
from rejepa_jax.retrieval.collection import opening, updates
from rejepa_jax.retrieval.collection.opening import current_version, open_collection
from rejepa_jax.types import DataError


@pytest.fixture
def run(tmp_path):
    return searched_run.make(tmp_path)


def test_updates_of_embeddings_that_were_made_anew_are_refused(run):
    updates.delete(run, ["place001"])
    vectors = searched_run.unit(9)
    searched_run.publish_embeddings(run, vectors, "f" * 64, again=1)
    searched_run.publish_index(run, vectors, "exact", "f" * 64)
    with pytest.raises(DataError, match=r"made anew since images were added or deleted. Remove"):
        open_collection(run)
    with pytest.raises(DataError, match="made anew"):
        updates.delete(run, ["place002"])
    (run / "updates" / "CURRENT").unlink()
    assert len(ids(run)) == 24


def test_index_of_other_embeddings_is_refused(run):
    searched_run.publish_embeddings(run, searched_run.unit(9), "f" * 64, again=1)
    with pytest.raises(DataError, match=r"index was made from the embeddings.*run the index stage"):
        open_collection(run)


def test_index_of_another_encoder_is_refused(run):
    shutil.rmtree(run / "index")
    searched_run.publish_index(run, searched_run.unit(0), "exact", "e" * 64)
    with pytest.raises(DataError, match="come from different encoders"):
        open_collection(run)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("CURRENT", b"{"),
        ("CURRENT", b'{"schema": "rejepa-updates/2"}'),
        ("CURRENT", b'{"schema": "rejepa-updates/1", "version": "x", "base": 0}'),
        ("1/deleted.npy", None),
        ("1/manifest.json", b'{"files": {}, "fingerprint": "abc"}'),
        ("1/embeddings/part-00000-of-00001.parquet", b"short"),
    ],
)
def test_damaged_versions_are_refused_by_name(run, name, content):
    updates.add(run, rows_of([100], searched_run.unit(1, 1)), MARK)
    path = run / "updates" / name
    path.write_bytes(bytes(path.stat().st_size) if content is None else content)
    with pytest.raises(DataError, match=path.name if "manifest" not in name else "of two versions"):
        open_collection(run)


def test_every_other_content_has_another_name(run):
    names = [current_version(run)]
    for _ in range(2):
        updates.delete(run, ["place001"])
        names.append(current_version(run))
        updates.add(run, rows_of([1], searched_run.unit(1, 1)), MARK)
        names.append(current_version(run))
    for path in sorted((run / "updates").glob("*/*")):
        path.unlink() if path.is_file() else None
    (run / "updates" / "CURRENT").unlink()
    assert current_version(run) == names[0]
    updates.delete(run, ["place005"])
    names.append(current_version(run))
    assert len(set(names)) == len(names)


def test_readers_find_a_whole_version_while_files_are_replaced(run):
    stop, faults, seen = threading.Event(), [], set()

    def read():
        while not stop.is_set():
            try:
                opened = open_collection(run)
                found = opened.search(opened.vectors([3]), 1)[1]
                seen.add(opened.version)
                assert found.tolist() == [[3]]
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a fault
                faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for turn in range(6):
            updates.delete(run, [f"place{10 + turn:03d}"])
        updates.merge(run)
        updates.add(run, rows_of([100], searched_run.unit(9, 1)), MARK)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not faults
    assert len(seen) > 1


def test_opening_waits_for_the_second_of_two_renames(run):
    moved = run / "embeddings.old"
    (run / "embeddings").rename(moved)
    timer = threading.Timer(0.1, lambda: moved.rename(run / "embeddings"))
    timer.start()
    assert open_collection(run).rows == 24
    timer.join()


def test_a_slow_opening_that_changes_once_is_done_again_and_endless_changes_are_told(
    run, monkeypatch
):
    monkeypatch.setattr(opening, "PATIENCE", 0.0)  # any opening takes longer
    open_one, opened = opening._open, []

    def changing(times):
        def act(*what):
            collection = open_one(*what)
            opened.append(collection.version)
            if len(opened) <= times:
                updates.delete(run, [f"place{len(opened):03d}"])
            return collection

        return act

    monkeypatch.setattr(opening, "_open", changing(1))
    assert open_collection(run).rows == 23
    assert len(opened) == 2
    opened.clear()
    updates.add(run, rows_of([1], searched_run.unit(1, 1)), MARK)
    monkeypatch.setattr(opening, "_open", changing(99))
    with pytest.raises(DataError, match="got another version each of 5 times that it was opened"):
        open_collection(run)
    assert len(set(opened)) == 5


def test_a_version_that_goes_while_it_is_opened_is_no_fault(run, monkeypatch):
    updates.delete(run, ["place001"])
    monkeypatch.setattr(opening, "PATIENCE", 0.0)
    open_one, faults = opening._open, []

    def act(*what):
        if not faults:  # another version comes, and the files of this one go
            updates.merge(run)
            updates.delete(run, ["place002"])
            faults.append(FileNotFoundError("gone"))
            raise faults[0]
        return open_one(*what)

    monkeypatch.setattr(opening, "_open", act)
    assert open_collection(run).rows == 22


def test_a_stage_that_has_not_run_is_told_at_once(run, monkeypatch):
    monkeypatch.setattr(opening, "PATIENCE", 1e9)  # nothing is waited for
    (run / "index" / artifacts.MANIFEST).unlink()
    with pytest.raises(FileNotFoundError, match=r"index has no manifest\.json"):
        open_collection(run)
