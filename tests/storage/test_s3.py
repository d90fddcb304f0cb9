"""The same against a real client and a server of S3's protocol, with a bad line between them."""

import http.client
import http.server
import json
import logging
import shutil
import signal
import subprocess
import threading
import time

import many
import numpy as np
import pytest
import road

from rejepa_jax import artifacts
from rejepa_jax.retrieval.embeddings import reading
from rejepa_jax.storage import files, mirror, readers, stores
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.types import ConfigError

pytestmark = pytest.mark.service
DATA = bytes(np.random.default_rng(0).integers(0, 256, 12_000_000, np.uint8))
ARTEFACTS = ["archive", "checkpoints", "embeddings", "encoders"]
ARTEFACTS += ["evaluation", "index", "records", "report"]
MISSING = "s3fs and moto come with the extras s3 and dev"


class Line(http.server.BaseHTTPRequestHandler):
    """Passes requests on, after the faults that are planned for the next of them."""

    faults: list[str] = []  # noqa: RUF012
    server_port = 0
    protocol_version = "HTTP/1.1"

    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "slow":
            time.sleep(3)
        if fault in ("slow", "drop"):
            self.close_connection = True
            return
        if fault == "500":
            self._answer(500, {}, b"<Error><Code>InternalError</Code></Error>")
            return
        kept = {k: v for k, v in self.headers.items() if k != "Transfer-Encoding"}
        if self.command != "HEAD" and body:
            kept["Content-Length"] = str(len(body))
        moto = http.client.HTTPConnection("127.0.0.1", self.server_port)
        moto.request(self.command, self.path, body, kept)
        answer = moto.getresponse()
        self._answer(answer.status, dict(answer.getheaders()), answer.read(), fault == "cut")

    def _chunks(self):
        data = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return data

    def _answer(self, code, headers, body, is_cut=False):
        self.send_response(code)
        headers = {k: v for k, v in headers.items() if k.lower() not in ("connection", "date")}
        if self.command != "HEAD":
            headers["Content-Length"] = str(len(body))
        for item in headers.items():
            self.send_header(*item)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if is_cut else body)
        self.close_connection = is_cut

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def moto():
    """A running server's port."""
    server = pytest.importorskip("moto.server", reason=MISSING)
    pytest.importorskip("s3fs", reason=MISSING)
    running = server.ThreadedMotoServer("127.0.0.1", port=0)
    running.start()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    yield running.get_host_and_port()[1]
    running.stop()


@pytest.fixture
def bucket(moto, tmp_path, monkeypatch):
    """An empty bucket behind a line without faults."""
    import boto3
    import s3fs

    line = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Line)
    line.handle_error = lambda *_: None  # a client that is killed hangs up
    threading.Thread(target=line.serve_forever, daemon=True).start()
    Line.server_port = moto
    Line.faults.clear()
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{line.server_address[1]}",
        "AWS_EC2_METADATA_DISABLED": "true",
        mirror.CACHE: str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    direct = boto3.resource("s3", endpoint_url=f"http://127.0.0.1:{moto}")
    made = direct.create_bucket(Bucket="rejepa")
    yield "s3://rejepa/place"
    made.objects.all().delete()
    made.delete()
    line.shutdown()
    line.server_close()


def test_files_go_up_across_and_down(bucket, tmp_path):
    (tmp_path / "data").write_bytes(DATA)
    (tmp_path / "empty").touch()
    for name in ("data", "empty"):
        files.upload(tmp_path / name, f"{bucket}/deep/{name}")
    files.copy(f"{bucket}/deep/data", f"{bucket}/copy")
    sizes = {"deep/data": len(DATA), "deep/empty": 0, "copy": len(DATA)}
    assert files.sizes(bucket) == sizes
    assert files.folders(bucket) == {"deep"}
    assert files.sizes(f"{bucket}/nothing") == files.sizes("s3://no-such-bucket/x") == {}
    ranges = [(0, 10), (5, 10), (11_000_000, 999), (len(DATA) - 4, 9), (len(DATA) + 5, 9)]
    reader = readers.open_reader(f"{bucket}/copy")
    assert reader.size == len(DATA)
    assert reader.read_many(ranges) == [DATA[offset : offset + n] for offset, n in ranges]
    digest = artifacts.sha256_file(tmp_path / "data")
    assert files.sha256(f"{bucket}/copy") == digest
    files.download(f"{bucket}/copy", tmp_path / "new", len(DATA), digest)
    assert (tmp_path / "new").read_bytes() == DATA
    files.remove(bucket, ["copy", "deep/empty", "never-there"])
    assert files.sizes(bucket).keys() == {"deep/data"}


@pytest.mark.parametrize("fault", ["500", "drop", "cut", "slow"])
def test_bad_line_is_outlived(bucket, tmp_path, monkeypatch, caplog, fault):
    monkeypatch.setenv(stores.TIMEOUT, "1")
    (tmp_path / "data").write_bytes(DATA[:100_000])
    url = f"{bucket}/data"

    def plan(faults):
        Line.faults[:] = [fault] * faults

    plan(0 if fault == "cut" else 2)
    files.upload(tmp_path / "data", url)
    plan(2)
    assert readers.open_reader(url).read_many([(7, 50), (90_000, 50)]) == [
        DATA[7:57],
        DATA[90_000:90_050],
    ]
    plan(2)
    files.download(url, tmp_path / "new", 100_000, artifacts.sha256_file(tmp_path / "data"))
    plan(0)
    assert files.sizes(bucket) == {"data": 100_000}
    if fault in ("500", "slow"):  # the client mends other faults itself
        assert "again in" in caplog.text


def test_store_that_stays_away_is_told(bucket, monkeypatch):
    monkeypatch.setenv(stores.RETRY, "1")
    Line.faults[:] = ["500"] * 99
    with pytest.raises(StoreError, match=f"{bucket}/data: cat_file failed . times.*Errno 121"):
        files.read_bytes(f"{bucket}/data")


def test_what_waiting_does_not_mend(bucket, monkeypatch, tmp_path):
    import s3fs

    with pytest.raises(FileNotFoundError, match=r"s3://no-such-bucket/x: .*bucket's name"):
        files.write_bytes("s3://no-such-bucket/x", b"data")
    with pytest.raises(ConfigError, match=r"s3://Bad_Name!/x: .* was refused"):
        files.read_bytes("s3://Bad_Name!/x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ConfigError, match=r"NoCredentialsError.*`aws configure`"):
        files.read_bytes(f"{bucket}/data")


def main(bucket, *flags, **changes):
    return road.run("main", *road.arguments(f"{bucket}/run", **changes), *flags)


def test_command_that_a_store_keeps_waiting_may_be_given_again(bucket, monkeypatch):
    monkeypatch.setenv(stores.RETRY, "0.1")
    Line.faults[:] = ["500"] * 99
    done = main(bucket, stage="prepare")
    assert done.returncode == 75
    assert f"{bucket}/run: ls failed" in done.stderr


@pytest.mark.slow
def test_whole_road_in_a_bucket_and_again_on_another_machine(bucket, tmp_path):
    done = main(bucket)
    assert done.returncode == 0, done.stderr
    names = files.sizes(f"{bucket}/run")
    assert not [name for name in names if ".partial" in name]
    assert f"rejepa search {bucket}/run IMAGE" in done.stdout
    assert {f"{name}/manifest.json" for name in ARTEFACTS} <= names.keys()
    shutil.rmtree(tmp_path / "cache")
    again = main(bucket)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("complete and unchanged, skipped") == 8
    assert again.stdout.replace("\r", "") == done.stdout
    shutil.rmtree(tmp_path / "cache")
    verified = road.run("cli", "verify", f"{bucket}/run")
    assert verified.returncode == 0, verified.stderr
    assert verified.stdout.splitlines() == [f"{bucket}/run/{name}: whole" for name in ARTEFACTS]
    described = road.run("cli", "inspect", f"{bucket}/run/records")
    assert f"{bucket}/run/records: records, " in described.stdout, described.stderr
    fetched = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not [name for name in fetched if ".tfrecord" in name]


def kept(bucket):
    """The steps of the checkpoints that are whole in the bucket."""
    there = files.sizes(f"{bucket}/run/checkpoints.partial").items()
    # A listing that is empty, of two bytes, announces a folder.
    return [int(k.split("/")[0]) for k, size in there if k.endswith("kept.json") and size > 2]


@pytest.mark.slow
def test_machine_that_is_killed_in_training_is_replaced_by_another(bucket, tmp_path):
    steps = {"train__steps": 80, "train__save_every": 8}
    process = subprocess.Popen(
        road.command("main", *road.arguments(f"{bucket}/run", **steps, stage="prepare,train")),
        cwd=road.ROOT,
        env=road.environment() | {mirror.CACHE: str(tmp_path / "cache")},
        stderr=subprocess.DEVNULL,
    )

    while not kept(bucket):
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(tmp_path / "cache")
    last = max(kept(bucket))
    done = main(bucket, **steps, stage="prepare,train")
    assert done.returncode == 0, done.stderr
    assert "records: complete and unchanged, skipped" in done.stderr
    resumed = int(done.stderr.partition("resumed from ")[2].split()[0].rpartition("/")[2])
    assert resumed == last
    log = artifacts.load(mirror.open_run(f"{bucket}/run") / "checkpoints")
    assert log["info"]["steps"] == 80


def losses(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
def test_records_in_a_bucket_are_the_same_and_are_read_there(bucket, tmp_path):
    records = f"{bucket}/sets/records"
    road_to = {"stage": "prepare,train", "prepare__workers": 2}
    done = main(bucket, **road_to, data__records=records)
    assert done.returncode == 0, done.stderr
    shards = {name for name in files.sizes(records) if name[-5:].isdecimal()}
    assert len(shards) == 6
    here = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert not here & shards
    assert "schema.json" in here
    local = road.run("main", *road.arguments(tmp_path / "run", **road_to))
    assert local.returncode == 0, local.stderr
    for name in shards:
        digest = artifacts.sha256_file(tmp_path / "run" / "records" / name)
        assert files.sha256(f"{records}/{name}") == digest
    run = mirror.open_run(f"{bucket}/run")
    assert losses(run / "checkpoints") == losses(tmp_path / "run" / "checkpoints")


@pytest.mark.slow
def test_hosts_that_share_nothing_but_a_bucket_are_one_run(bucket, tmp_path):
    # Each has a mirror of its own; both are lost in the middle of training.
    steps = {"train__steps": 80, "train__save_every": 8, "export__part_rows": 10}
    split = road.arguments(f"{bucket}/run", **steps, mesh__fsdp=2)
    with many.started(many.of_the_road(2, *split)) as hosts:
        while not kept(bucket):
            assert [host.poll() for host in hosts] == [None, None]
            time.sleep(0.2)
    shutil.rmtree(tmp_path / "cache")
    codes, (said, other) = many.ended(many.of_the_road(2, *split))
    assert codes == [0, 0], said + other
    assert "resumed from" in said
    alone = road.run("main", *road.arguments(tmp_path / "run", **steps))
    assert alone.returncode == 0, alone.stderr
    run = mirror.open_run(f"{bucket}/run")
    np.testing.assert_allclose(
        losses(run / "checkpoints"), losses(tmp_path / "run" / "checkpoints"), rtol=1e-4
    )
    verified = road.run("cli", "verify", f"{bucket}/run")
    assert verified.stdout.splitlines() == [f"{bucket}/run/{name}: whole" for name in ARTEFACTS]
    theirs, ours = (reading.read(path / "embeddings") for path in (run, tmp_path / "run"))
    assert theirs.ids == ours.ids
    np.testing.assert_allclose(theirs.vectors, ours.vectors, atol=1e-3)
