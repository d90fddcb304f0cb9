"""Servers as processes of their own, asked over real sockets."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import httpx

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
THREADS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
READY_S = 60
REAL = ("-m", "rejepa_jax.cli", "serve")
FAKE = (HERE / "fakes.py",)


@contextlib.contextmanager
def serving(program, *arguments):
    """Runs a program that serves; yields (process, client); at the end it exits with 0."""
    command = [sys.executable, *map(str, (*program, *arguments))]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", HERE)))
    process = subprocess.Popen(
        command,
        env=os.environ | THREADS | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http"), process.stderr.read()
        with httpx.Client(base_url=url, timeout=30) as client:
            wait(lambda: client.get("/readyz").status_code == 200, READY_S)
            yield process, client
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.log = process.communicate()[1]


def wait(is_so, seconds):
    """Waits until something is so."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


def line(client):
    """A plain socket to the server, for what no client library would send."""
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)


def head(path, *headers):
    """The head of a POST request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def answer(sock):
    """All that is answered until the server closes, or for a moment."""
    data = b""
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while part := sock.recv(2**16):
            data += part
    return data
