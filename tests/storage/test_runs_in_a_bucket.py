"""Runs in a bucket outlive the machine, wherever it is lost."""

import itertools
import shutil

import pytest
from fake_store import DATA, FakeStore, LostError

from rejepa_jax import artifacts
from rejepa_jax.artifacts import Built, run_stage
from rejepa_jax.storage import fetching, files, keeping, mirror
from rejepa_jax.types import ConfigError, DataError

RUN = "fake://bucket/runs/one"


def build(partial):
    """Makes two files and a folder, keeping one file and the folder on the way."""
    if not (partial / "part").exists():
        (partial / "part").write_bytes(DATA)
        keeping.keep(partial / "part")
    if not (partial / "step").exists():
        (partial / "step" / "deep").mkdir(parents=True)
        (partial / "step" / "a").write_text("alpha")
        (partial / "step" / "deep" / "b").write_bytes(DATA[:999])
        keeping.keep(partial / "step")
    (partial / "log").write_text("last")
    return Built({"rows": 7})


def never(partial):
    pytest.fail(f"built again in {partial}")


def stage(build, inputs="records", settings=3):
    run = mirror.open_run(RUN)
    return run / "stage", run_stage(run / "stage", {"n": settings}, {"from": inputs}, build)


def gets():
    return [path for kind, path in FakeStore.requests if kind == "get"]


def test_on_another_machine_all_is_complete_and_comes_when_it_is_loaded(machine):
    here, manifest = stage(build)
    assert FakeStore.below(RUN).keys() == {
        f"stage/{name}" for name in ("part", "step/a", "step/deep/b", "log", "manifest.json")
    }
    machine()
    there, again = stage(never)
    assert (there, again) == (here, manifest)
    assert [path.name for path in there.iterdir()] == ["manifest.json"]
    assert artifacts.verify(there) == []
    assert not gets()
    artifacts.load(there)
    assert (there / "part").read_bytes() == DATA
    assert len(gets()) == 4
    artifacts.load(there)
    assert len(gets()) == 4


def test_what_is_built_finds_all_that_is_complete_beside_it(machine):
    directory, _ = stage(build)
    machine()
    stage(never)

    def look(partial):
        assert (directory / "step" / "a").read_text() == "alpha"
        return build(partial)

    run_stage(directory.with_name("next"), {}, {}, look)


def test_work_in_progress_goes_on_where_the_machine_was_lost(machine):
    def stop(partial):
        build(partial)
        raise LostError

    with pytest.raises(LostError):
        stage(stop)
    machine()

    def go_on(partial):
        found = {p.relative_to(partial).as_posix() for p in partial.rglob("*") if p.is_file()}
        assert found == {"begun.json", "part", "step/a", "step/deep/b"}
        return build(partial)

    directory, _ = stage(go_on)
    assert artifacts.verify(directory) == []
    assert not [name for name in FakeStore.below(RUN) if ".partial" in name]
    sent = [path for kind, path in FakeStore.requests if kind == "pipe" and path.endswith("/part")]
    assert sent == ["bucket/runs/one/stage.partial/part", "bucket/runs/one/stage/part"]


def test_what_is_kept_and_large_is_not_sent_twice(monkeypatch):
    monkeypatch.setattr(keeping, "_COPIED", 1000)
    stage(build)
    ways = {kind for kind, path in FakeStore.requests if path.endswith("stage/part")}
    assert ways == {"cp"}


@pytest.mark.parametrize("is_rebuilt", [False, True])
def test_machine_lost_before_any_write_leaves_nothing_half(machine, is_rebuilt):
    """Every write to the bucket in turn is the first that does not arrive."""
    for writes in itertools.count():
        FakeStore.reset()
        machine()
        if is_rebuilt:
            stage(lambda partial: (partial / "old").write_text("x") and Built({}), inputs="other")
        FakeStore.writes_left.append(writes)
        try:
            stage(build)
        except LostError:
            machine()
        else:
            break
        names = FakeStore.below(RUN)
        if "stage/manifest.json" in names:  # then it is whole, be it the old one or the new one
            assert artifacts.verify(mirror.open_run(RUN) / "stage") == []
        directory, manifest = stage(build)
        assert artifacts.verify(directory) == []
        assert manifest["inputs"] == {"from": "records"}
        complete = {f"stage/{name}" for name in [*manifest["files"], "manifest.json"]}
        assert FakeStore.below(RUN).keys() >= complete
        assert {n for n in FakeStore.below(RUN) if n.startswith("stage/")} == complete
    assert writes > 12


@pytest.mark.parametrize("lost_after", range(6))
def test_folder_of_which_a_part_arrived_is_not_brought_back(machine, lost_after):
    FakeStore.writes_left.append(3 + lost_after)  # begun.json, part, and of the folder so many
    with pytest.raises(LostError):
        stage(lambda partial: (build(partial), keeping.forget(partial / "step")) and never)
    machine()
    seen = []

    def look(partial):
        seen.extend(p.name for p in (partial / "step").rglob("*") if p.is_file())
        return build(partial)

    stage(look)
    # Four writes make the folder whole; a first one, of its listing, begins to take it away.
    assert sorted(seen) == (["a", "b"] if lost_after == 3 else [])


def test_changed_settings_are_refused_with_the_address_in_the_bucket(machine):
    stage(build)
    machine()
    with pytest.raises(ConfigError, match=rf"^{RUN}/stage was made with other .*n: 3 -> 4"):
        stage(never, settings=4)


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("part", DATA[:-5], f"{RUN}/stage/part: got {len(DATA) - 5} bytes, expected {len(DATA)}"),
        ("step/a", None, f"{RUN}/stage/step/a: got no file, expected 5 bytes; remove {RUN}/stage"),
        ("step/a", b"ALPHA", rf"{RUN}/stage/step/a: (got )?sha256 \w+, expected 8ed3f6ad"),
    ],
    ids=["cut", "gone", "changed"],
)
def test_fault_in_the_bucket_is_found(machine, name, data, match):
    stage(build)
    machine()
    FakeStore.objects.pop(f"bucket/runs/one/stage/{name}")
    if data:
        FakeStore.objects[f"bucket/runs/one/stage/{name}"] = data
    directory = mirror.open_run(RUN) / "stage"
    with pytest.raises(DataError, match=match):
        artifacts.load(directory)
    (fault,) = artifacts.verify(directory)
    assert fault.startswith(f"{RUN}/stage/{name}: ")


def test_any_file_system_of_fsspec_serves(machine, tmp_path):
    for where in ("memory://bucket/run", f"file://{tmp_path}/bucket/run"):
        for inputs in ("one", "two"):
            directory = mirror.open_run(where) / "stage"
            run_stage(directory, {}, {"from": inputs}, build)
            machine()
        directory = mirror.open_run(where) / "stage"
        run_stage(directory, {}, {"from": "two"}, never)
        artifacts.load(directory)
        assert (directory / "step" / "a").read_text() == "alpha"
        assert artifacts.verify(directory) == []
        assert not [name for name in files.sizes(where) if ".partial" in name]


def test_file_that_would_lie_elsewhere_is_refused(tmp_path):
    directory, _ = stage(build)
    with pytest.raises(DataError, match=rf"{RUN}/stage: got a file named '\.\./\.\./x'"):
        fetching.fetch(directory, {"../../x": {"bytes": 1, "sha256": ""}})
    FakeStore.objects["bucket/runs/one/../manifest.json"] = b"{}"
    mirror.open_run(RUN)
    assert (tmp_path / "cache").exists()


def test_bucket_has_the_last_word(tmp_path):
    directory, _ = stage(build)
    run_stage(directory.with_name("other"), {}, {}, build)
    for name in [name for name in FakeStore.objects if "/one/stage/" in name]:
        del FakeStore.objects[name]
    assert not (mirror.open_run(RUN) / "stage").exists()  # removed there to be made again
    stage(build)
    assert artifacts.verify(directory) == []
    FakeStore.objects.clear()
    with pytest.raises(ConfigError, match=f"{RUN} holds nothing, but its mirror .*other, stage"):
        mirror.open_run(RUN)
    assert mirror.open_run(str(tmp_path)) == tmp_path


def test_unfinished_work_here_gives_way_to_what_another_machine_began(machine, tmp_path):
    def stop(partial):
        (partial / "mine").write_text("x")
        raise LostError

    with pytest.raises(LostError):
        stage(stop)
    shutil.move(tmp_path / "cache", tmp_path / "first")
    with pytest.raises(LostError):
        stage(lambda partial: (keeping.keep(_write(partial / "yours")), stop(partial)), inputs="b")
    machine()
    shutil.move(tmp_path / "first", tmp_path / "cache")

    def look(partial):
        assert {path.name for path in partial.iterdir()} == {"begun.json", "yours"}
        return Built({})

    stage(look, inputs="b")


def _write(path):
    path.write_text("y")
    return path


def test_refusal_before_any_work_leaves_no_trace_in_the_bucket():
    def refuse(_):
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        stage(refuse)
    assert not FakeStore.objects


def test_copy_of_a_mirror_is_a_directory_like_any_other(tmp_path):
    directory, _ = stage(build)
    copy = shutil.copytree(directory.parent, tmp_path / "copy")
    before = len(FakeStore.requests)
    run_stage(copy / "stage", {"n": 3}, {"from": "new"}, build)
    assert artifacts.verify(copy / "stage") == []
    assert mirror.address(copy / "stage") == str(copy / "stage")
    assert len(FakeStore.requests) == before
