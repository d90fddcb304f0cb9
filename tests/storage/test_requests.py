"""Requests that fail: in passing, for good, or by hanging."""

import errno
import logging

import fsspec
import pytest
from fake_store import ClientError, FakeStore

from rejepa_jax.storage import files, stores
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.types import ConfigError, DataError


@pytest.mark.parametrize(
    "fault",
    [
        TimeoutError("read"),
        ConnectionResetError("by peer"),
        OSError(errno.EIO, "?"),
        *map(ClientError, (500, 502, 503, 408, 429)),
    ],
    ids=repr,
)
def test_what_fails_in_passing_is_tried_again_and_each_time_told_once(fault, clock, caplog):
    FakeStore.objects["bucket/a"] = b"alpha"
    FakeStore.faults += [fault] * 4
    with caplog.at_level(logging.WARNING):
        assert files.read_bytes("fake://bucket/a") == b"alpha"
    assert len(FakeStore.requests) == 5
    assert [line.startswith("fake://bucket/a: cat_file failed") for line in caplog.messages] == [
        True
    ] * 4
    # Half a second, then twice as much each time, less up to a half.
    assert all(0.5 <= pause / top <= 1 for pause, top in zip(clock, (0.5, 1, 2, 4), strict=True))


@pytest.mark.parametrize(("seconds", "fewest", "most"), [("", 9, 15), ("10", 5, 7), ("0", 1, 1)])
def test_after_the_time_for_it_the_error_says_where_what_and_what_to_do(
    monkeypatch, clock, seconds, fewest, most
):
    monkeypatch.setenv(stores.RETRY, seconds)
    FakeStore.faults += [ConnectionRefusedError("port 443")] * 99
    with pytest.raises(
        StoreError,
        match=r"fake://bucket/a: cat_file failed \d+ times.*ConnectionRefusedError: port 443"
        r".*run again.*REJEPA_STORE_RETRY",
    ):
        files.read_bytes("fake://bucket/a")
    assert fewest <= len(FakeStore.requests) <= most
    assert sum(clock) <= float(seconds or 120)


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        (None, FileNotFoundError, "fake://bucket/a: cat_file found nothing there.*bucket's name"),
        (PermissionError("no"), ConfigError, "fake://bucket/a: cat_file was refused.*credentials"),
        (ClientError(403), ConfigError, r"was refused \(ClientError: .*HTTP 403.*credentials"),
        (OSError("Forbidden: x"), ConfigError, "was refused"),  # gcsfs
        (OSError(errno.EINVAL, "InvalidBucketName"), ConfigError, "InvalidBucketName"),
        (OSError(errno.ENOSPC, "full"), DataError, "on this machine.*make room.*REJEPA_CACHE"),
    ],
    ids=repr,
)
def test_what_waiting_does_not_mend_is_told_at_once(fault, error, match):
    FakeStore.faults.append(fault)
    with pytest.raises(error, match=match):
        files.read_bytes("fake://bucket/a")
    assert len(FakeStore.requests) == 1


def test_request_that_hangs_is_given_up_and_made_again(monkeypatch, clock, caplog):
    monkeypatch.setenv(stores.TIMEOUT, "0.05")
    FakeStore.objects["bucket/a"] = b"alpha"
    FakeStore.faults.append(60.0)
    assert files.read_bytes("fake://bucket/a") == b"alpha"
    assert "FSTimeoutError" in caplog.text
    assert len(clock) == 1


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("gs://bucket/a", r"pip install 'rejepa_jax\[gs\]'"),
        ("s3://bucket/a", r"pip install 'rejepa_jax\[s3\]'"),
        ("nowhere://bucket/a", r"protocol nowhere://, expected gs://, s3://"),
    ],
)
def test_missing_package_is_named_by_its_extra(monkeypatch, url, match):
    def url_to_fs(url, **_):
        raise (ValueError if url.startswith("nowhere") else ImportError)("Please install it")

    monkeypatch.setattr(fsspec, "url_to_fs", url_to_fs)
    with pytest.raises(ConfigError, match=match):
        files.read_bytes(url)


def test_seconds_that_are_no_number_are_refused(monkeypatch):
    monkeypatch.setenv(stores.TIMEOUT, "a minute")
    with pytest.raises(ConfigError, match="REJEPA_STORE_TIMEOUT: got 'a minute', expected seconds"):
        files.read_bytes("fake://bucket/a")
