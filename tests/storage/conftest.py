"""A machine that can be lost, stores that fail on purpose, time that passes only in pauses."""

import shutil

import fsspec
import pytest
from fake_store import FakeStore

from rejepa_jax.storage import mirror, stores


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine with an empty cache, before empty stores; returns what wipes it."""
    FakeStore.reset()
    fsspec.filesystem("memory").store.clear()
    monkeypatch.setenv(mirror.CACHE, str(tmp_path / "cache"))

    def lose():
        FakeStore.writes_left.clear()
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)

    return lose


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only in pauses; returns the pauses."""
    pauses = []

    class Clock:
        sleep = staticmethod(pauses.append)
        monotonic = staticmethod(lambda: sum(pauses))

    monkeypatch.setattr(stores, "time", Clock)
    return pauses
