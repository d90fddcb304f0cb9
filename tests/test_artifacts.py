import json
import os
import pathlib
import shutil

import pytest

from rejepa_jax import artifacts
from rejepa_jax.artifacts import Built, run_stage
from rejepa_jax.types import ConfigError, DataError

SETTINGS = {"size": 3, "optim": {"rate": 0.1, "betas": (0.9, 0.99)}}
INPUTS = {"records": "abc"}


def build(partial):
    """Writes two files, one of them in a folder."""
    (partial / "deep").mkdir(exist_ok=True)
    (partial / "a.txt").write_text("alpha")
    (partial / "deep" / "b.bin").write_bytes(bytes(range(200)))
    return Built({"rows": 7})


def never(partial):
    pytest.fail(f"built again in {partial}")


@pytest.fixture
def stage(tmp_path):
    """A complete artefact's directory."""
    run_stage(tmp_path / "stage", SETTINGS, INPUTS, build)
    return tmp_path / "stage"


def contents(directory):
    files = (p for p in directory.rglob("*") if p.is_file())
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in files}


# --- what is left behind


def test_manifest_describes_what_was_built(stage):
    manifest = json.loads((stage / "manifest.json").read_text())
    assert manifest["stage"] == "stage"
    assert manifest["info"] == {"rows": 7}
    assert manifest["inputs"] == INPUTS
    assert manifest["settings"] == {"size": 3, "optim": {"rate": 0.1, "betas": [0.9, 0.99]}}
    assert manifest["files"]["deep/b.bin"]["bytes"] == 200
    # sha256 of "alpha", from coreutils.
    assert manifest["files"]["a.txt"] == {
        "bytes": 5,
        "sha256": "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8",
    }
    assert {"rejepa_jax", "python", "jax", "numpy"} <= manifest["versions"].keys()


def test_only_the_artefact_is_left(stage):
    assert {path.name for path in stage.parent.iterdir()} == {"stage"}
    assert contents(stage).keys() == {"a.txt", "deep/b.bin", "manifest.json"}


def test_known_hashes_are_not_computed_again(tmp_path):
    def build_known(partial):
        build(partial)
        return Built({}, {"a.txt": "known"})

    manifest = run_stage(tmp_path / "stage", {}, {}, build_known)
    assert manifest["files"]["a.txt"]["sha256"] == "known"


def test_equal_content_gives_equal_fingerprints_wherever_and_whenever_it_is_made(stage, tmp_path):
    other = run_stage(tmp_path / "elsewhere" / "stage", SETTINGS, INPUTS, build)
    assert other["fingerprint"] == artifacts.load(stage)["fingerprint"]


@pytest.mark.parametrize(
    ("settings", "inputs", "is_equal"),
    [({**SETTINGS, "size": 4}, INPUTS, False), (SETTINGS, {"records": "abd"}, True)],
)
def test_fingerprint_is_of_what_it_is_and_not_of_what_it_came_from(
    stage, tmp_path, settings, inputs, is_equal
):
    other = run_stage(tmp_path / "elsewhere" / "stage", settings, inputs, build)
    assert (other["fingerprint"] == artifacts.load(stage)["fingerprint"]) == is_equal


@pytest.mark.parametrize(
    ("error", "touched", "is_left"),
    [(ConfigError, True, False), (DataError, False, False), (DataError, True, True)],
)
def test_a_refusal_before_any_work_leaves_no_trace(tmp_path, error, touched, is_left):
    def refuse(partial):
        if touched:
            (partial / "begun.txt").write_text("work")
        raise error("no")

    with pytest.raises(error, match="no"):
        run_stage(tmp_path / "stage", SETTINGS, INPUTS, refuse)
    assert (tmp_path / "stage.partial").exists() == is_left


# --- run again


def test_complete_and_unchanged_is_skipped(stage):
    before = contents(stage)
    assert run_stage(stage, SETTINGS, INPUTS, never) == artifacts.load(stage)
    assert contents(stage) == before


def test_changed_settings_are_refused_and_named(stage):
    changed = {"size": 3, "optim": {"rate": 0.2, "betas": (0.9, 0.99)}}
    with pytest.raises(ConfigError, match=r"optim\.rate: 0\.1 -> 0\.2.*another --workdir"):
        run_stage(stage, changed, INPUTS, never)


def test_new_setting_is_refused_and_named(stage):
    with pytest.raises(ConfigError, match=r"\(depth: '\(unset\)' -> 2\)"):
        run_stage(stage, {**SETTINGS, "depth": 2}, INPUTS, never)


def test_changed_inputs_rebuild_and_the_old_stays_until_the_new_is_there(stage):
    seen = []

    def rebuild(partial):
        seen.append(contents(stage)["a.txt"])
        (partial / "a.txt").write_text("beta")
        return Built({"rows": 8})

    manifest = run_stage(stage, SETTINGS, {"records": "new"}, rebuild)
    assert seen == [b"alpha"]
    assert manifest["info"] == {"rows": 8}
    assert contents(stage).keys() == {"a.txt", "manifest.json"}
    assert (stage / "a.txt").read_text() == "beta"
    assert {path.name for path in stage.parent.iterdir()} == {"stage"}


def test_failed_rebuild_leaves_the_old_artefact(stage):
    before = contents(stage)
    with pytest.raises(KeyboardInterrupt):
        run_stage(stage, SETTINGS, {"records": "new"}, interrupted)
    assert contents(stage) == before
    run_stage(stage, SETTINGS, INPUTS, never)


# --- interruptions


def interrupted(partial):
    (partial / "a.txt").write_text("half")
    raise KeyboardInterrupt


def go_on(partial):
    assert (partial / "a.txt").read_text() == "half"
    return build(partial)


def start_anew(partial):
    assert not (partial / "a.txt").exists()
    return build(partial)


def test_interrupted_build_goes_on_in_the_same_directory(tmp_path, stage):
    directory = tmp_path / "again" / "stage"
    with pytest.raises(KeyboardInterrupt):
        run_stage(directory, SETTINGS, INPUTS, interrupted)
    assert not directory.exists()
    run_stage(directory, SETTINGS, INPUTS, go_on)
    files = contents(directory)
    assert {name: files[name] for name in ("a.txt", "deep/b.bin")} == {
        name: contents(stage)[name] for name in ("a.txt", "deep/b.bin")
    }
    assert artifacts.verify(directory) == []
    assert {path.name for path in directory.parent.iterdir()} == {"stage"}


def test_interrupted_build_with_other_settings_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "stage", SETTINGS, INPUTS, interrupted)
    with pytest.raises(ConfigError, match=r"stage\.partial was made with other .*size: 3 -> 4"):
        run_stage(tmp_path / "stage", {**SETTINGS, "size": 4}, INPUTS, never)


def test_interrupted_build_from_other_inputs_starts_anew(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_stage(tmp_path / "stage", SETTINGS, INPUTS, interrupted)
    run_stage(tmp_path / "stage", SETTINGS, {"records": "new"}, start_anew)


@pytest.mark.parametrize("place", ["artifacts.sha256_file", "artifacts.versions", "os.fsync"])
def test_interruption_while_the_manifest_is_made_loses_no_work(tmp_path, monkeypatch, place):
    # Hashing the checkpoints of a long run takes minutes, and training took days.
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:

        def build_and_stop(partial):
            module, name = place.split(".")
            patch.setattr({"artifacts": artifacts, "os": os}[module], name, stop)
            return build(partial)

        with pytest.raises(KeyboardInterrupt):
            run_stage(tmp_path / "stage", SETTINGS, INPUTS, build_and_stop)

    def find(partial):
        assert (partial / "deep" / "b.bin").exists(), "what was built has been removed"
        return build(partial)

    run_stage(tmp_path / "stage", SETTINGS, INPUTS, find)
    assert contents(tmp_path / "stage").keys() == {"a.txt", "deep/b.bin", "manifest.json"}
    assert artifacts.verify(tmp_path / "stage") == []


@pytest.fixture
def crash(monkeypatch):
    """Runs a stage in a process that ends just before a rename, counted from 1."""

    def run(number, *args):
        rename, seen = pathlib.Path.rename, []

        def counted(self, target):
            seen.append(self)
            if len(seen) == number:
                raise KeyboardInterrupt
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(pathlib.Path, "rename", counted)
            with pytest.raises(KeyboardInterrupt):
                run_stage(*args)

    return run


@pytest.mark.parametrize("number", [1, 2])
def test_crash_at_publication_of_a_rebuild_leaves_something_whole(stage, crash, number):
    crash(number, stage, SETTINGS, {"records": "new"}, build)
    assert [path for path in stage.parent.iterdir() if artifacts.verify(path) == []]


@pytest.mark.parametrize("number", [1, 2])
def test_crash_at_publication_of_a_rebuild_loses_no_work(stage, crash, number):
    crash(number, stage, SETTINGS, {"records": "new"}, build)
    manifest = run_stage(stage, SETTINGS, {"records": "new"}, never)
    assert manifest["inputs"] == {"records": "new"}
    assert artifacts.verify(stage) == []
    assert {path.name for path in stage.parent.iterdir()} == {"stage"}


def test_crash_at_first_publication_loses_no_work(tmp_path, crash):
    crash(1, tmp_path / "stage", SETTINGS, INPUTS, build)
    run_stage(tmp_path / "stage", SETTINGS, INPUTS, never)


def test_finished_but_unpublished_work_of_other_settings_is_refused(tmp_path, crash):
    crash(1, tmp_path / "stage", SETTINGS, INPUTS, build)
    with pytest.raises(ConfigError, match="size: 3 -> 4"):
        run_stage(tmp_path / "stage", {**SETTINGS, "size": 4}, INPUTS, never)


def test_leftover_of_an_earlier_publication_is_no_hindrance(stage):
    shutil.copytree(stage, stage.with_name("stage.old"))
    run_stage(stage, SETTINGS, {"records": "new"}, build)
    assert {path.name for path in stage.parent.iterdir()} == {"stage"}


# --- what others have made


@pytest.mark.parametrize("name", ["stage", "stage.partial", "stage.old"])
@pytest.mark.parametrize("files", [None, {"thesis.md": "mine"}, {"manifest.json": '{"name": 1}'}])
def test_what_is_not_ours_is_refused_and_stays(tmp_path, name, files):
    theirs = tmp_path / name
    if files is None:
        theirs.write_text("mine")
    else:
        theirs.mkdir()
        for file, text in files.items():
            (theirs / file).write_text(text)
    what = "a file" if files is None else "a folder with other things in it"
    with pytest.raises(ConfigError, match=f"{name}: got {what} there, expected .*; give another"):
        run_stage(tmp_path / "stage", SETTINGS, INPUTS, never)
    assert list(tmp_path.iterdir()) == [theirs]
    assert (
        theirs.read_text() == "mine" if files is None else contents(theirs).keys() == files.keys()
    )


def test_publication_over_what_is_not_ours_is_refused(stage, tmp_path):
    theirs = tmp_path / "other"
    theirs.mkdir()
    (theirs / "thesis.md").write_text("mine")
    with pytest.raises(ConfigError, match="other: got a folder with other things"):
        artifacts.publish(stage, theirs)
    assert contents(theirs) == {"thesis.md": b"mine"}


def test_empty_directories_are_filled(tmp_path):
    for name in ("stage", "stage.partial", "stage.old"):
        (tmp_path / name).mkdir()
    run_stage(tmp_path / "stage", SETTINGS, INPUTS, build)
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]
    assert artifacts.verify(tmp_path / "stage") == []


def test_crash_while_the_replaced_is_removed_is_no_hindrance(stage, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stop)
        with pytest.raises(KeyboardInterrupt):
            run_stage(stage, SETTINGS, {"records": "new"}, build)
    assert (stage.with_name("stage.old") / "manifest.json").exists()
    run_stage(stage, SETTINGS, {"records": "newer"}, build)
    assert [path.name for path in stage.parent.iterdir()] == ["stage"]


# --- checks


def test_missing_file_is_named(stage):
    (stage / "deep" / "b.bin").unlink()
    with pytest.raises(DataError, match=r"stage/deep/b\.bin: got no file, expected 200 bytes; rem"):
        artifacts.load(stage)
    with pytest.raises(DataError, match=r"b\.bin: got no file"):
        run_stage(stage, SETTINGS, INPUTS, never)


def test_truncated_file_is_named(stage):
    (stage / "a.txt").write_text("alph")
    with pytest.raises(DataError, match=r"stage/a\.txt: got 4 bytes, expected 5"):
        artifacts.load(stage)
    (fault,) = artifacts.verify(stage)
    assert "a.txt: got 4 bytes" in fault


def test_no_manifest_is_said_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json.* -m rejepa_jax\.main"):
        artifacts.load(tmp_path)
    assert len(artifacts.verify(tmp_path)) == 1


def test_whole_artefact_verifies(stage):
    assert artifacts.verify(stage) == []


def test_flipped_byte_is_found(stage):
    path = stage / "deep" / "b.bin"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    artifacts.load(stage)  # the size is right
    (fault,) = artifacts.verify(stage)
    assert "b.bin: sha256" in fault


def test_changed_manifest_is_found(stage):
    path = stage / "manifest.json"
    path.write_text(path.read_text().replace('"rate": 0.1', '"rate": 0.2'))
    (fault,) = artifacts.verify(stage)
    assert "manifest.json: its fingerprint does not match" in fault


def test_manifest_that_is_no_json_is_a_fault(stage):
    (stage / "manifest.json").write_text("{")
    assert len(artifacts.verify(stage)) == 1


# --- JSON


def test_fingerprint_is_that_of_the_canonical_form():
    # sha256 of {"a":[1,2],"b":null}, from coreutils.
    expected = "f25109c4111335e4a32d49373585e7a788ff5b10e70023f7004b170e7f84716a"
    assert artifacts.fingerprint({"b": None, "a": (1, 2)}) == expected


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    artifacts.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        artifacts.write_json(path, {"a": object()})
    assert artifacts.read_json(path) == {"a": 1}


def test_plain_gives_what_json_gives_back():
    content = {"built": Built({"x": (1, 2)}, {"f": "h"}), 3: [(4,)], "none": None}
    assert artifacts.plain(content) == json.loads(json.dumps(artifacts.plain(content)))
    assert artifacts.plain(content)["built"] == {"info": {"x": [1, 2]}, "sha256": {"f": "h"}}


def test_a_build_that_judges_keeps_what_an_interrupted_one_left_though_inputs_changed(tmp_path):
    def stop(partial):
        (partial / "half.txt").write_text("half")
        raise KeyboardInterrupt

    seen = []

    def look(partial):
        seen.append(sorted(path.name for path in partial.iterdir()))
        return build(partial)

    for name, is_judge, kept in (("a", False, []), ("b", True, ["half.txt"])):
        with pytest.raises(KeyboardInterrupt):
            run_stage(tmp_path / name, SETTINGS, INPUTS, stop, is_judge)
        manifest = run_stage(tmp_path / name, SETTINGS, {"records": "new"}, look, is_judge)
        assert seen.pop() == ["begun.json", *kept]
        assert manifest["inputs"] == {"records": "new"}
