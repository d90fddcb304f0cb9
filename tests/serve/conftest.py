"""One application over invented images; each test file asks it as a client would."""

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
with warnings.catch_warnings(action="ignore"):  # of httpx, which its successor will replace
    from starlette.testclient import TestClient

from fakes import FakeSearcher

from rejepa_jax.serve.app import create_app
from rejepa_jax.serve.settings import Settings

URL = "http://127.0.0.1:8080"


@pytest.fixture(scope="session")
def client():
    """A client of a server with the default settings."""
    return client_of(Settings())


@pytest.fixture
def serving():
    """Makes clients of servers with other settings or another searcher."""
    return client_of


def client_of(settings, searcher=None, url=URL):
    """A client that is told of faults inside the server as any other is: by status 500."""
    app = create_app(searcher or FakeSearcher(), settings)
    return TestClient(app, url, raise_server_exceptions=False, follow_redirects=False)
