"""Records of which only the small files are ever here."""

import fsspec
import pytest
from fake_store import DATA

from rejepa_jax import artifacts
from rejepa_jax.artifacts import Built, run_stage
from rejepa_jax.storage import files, keeping, mirror
from rejepa_jax.storage.readers import open_reader
from rejepa_jax.types import ConfigError, DataError

RECORDS = "memory://bucket/sets/records"
SHARDS = "*.tfrecord-?????-of-?????"


def build_records(partial):
    """Leaves two shards in the bucket, as an archive that is larger than the disk would."""
    hashes = {}
    for number in range(2):
        path = partial / f"toy.tfrecord-0000{number}-of-00002"
        if mirror.size(path) is None:
            path.write_bytes(DATA[number:])
            keeping.keep(path)
        assert not path.exists()
        assert mirror.size(path) == len(DATA) - number
        hashes[path.name] = files.sha256(mirror.location(path))
    (partial / "schema.json").write_text("{}")
    return Built({}, hashes)


def make_records(build=build_records):
    directory = mirror.open_artefact(RECORDS, SHARDS)
    return directory, run_stage(directory, {}, {}, build)


def never(partial):
    pytest.fail(f"built again in {partial}")


def test_shards_are_left_in_the_bucket_and_read_there(machine):
    directory, manifest = make_records()
    sizes = {name: entry["bytes"] for name, entry in manifest["files"].items()}
    assert sizes == {
        "schema.json": 2,
        "toy.tfrecord-00000-of-00002": len(DATA),
        "toy.tfrecord-00001-of-00002": len(DATA) - 1,
    }
    machine()
    directory, _ = make_records(never)
    artifacts.load(directory)
    assert {path.name for path in directory.iterdir()} == {"manifest.json", "schema.json"}
    where = mirror.location(directory / "toy.tfrecord-00001-of-00002")
    assert where == f"{RECORDS}/toy.tfrecord-00001-of-00002"
    assert open_reader(where).read(100, 50) == DATA[101:151]
    assert mirror.location(directory / "schema.json") == str(directory / "schema.json")
    assert artifacts.verify(directory) == []
    fsspec.filesystem("memory").pipe_file("/bucket/sets/records/toy.tfrecord-00001-of-00002", b"")
    with pytest.raises(DataError, match=f"{where}: got 0 bytes, expected {len(DATA) - 1}"):
        artifacts.load(directory)


def test_records_that_were_begun_go_on_without_their_shards_coming_back(machine):
    def stop(partial):
        build_records(partial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_records(stop)
    machine()
    directory, _ = make_records()
    assert artifacts.verify(directory) == []


def test_records_need_a_folder_in_a_bucket():
    with pytest.raises(ConfigError, match="got gs://records, expected a folder in a bucket"):
        mirror.open_artefact("gs://records", SHARDS)
