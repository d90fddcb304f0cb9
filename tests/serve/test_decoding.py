"""Faults 35 and 36 in the children that decode: limits that the kernel keeps, and who dies."""

import asyncio
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from hostile import GOOD, NO_IMAGE, PIXELS, TOO_LARGE, picture
from starlette.exceptions import HTTPException

from rejepa_jax.serve.settings import Settings
from rejepa_jax.serve.uploads import Decoder

pytestmark = pytest.mark.service


@contextlib.contextmanager
def decoding(**settings):
    """A decoder and a loop to ask it in."""
    with asyncio.Runner() as runner:
        decoder = Decoder(Settings(**settings))
        runner.run(decoder.warm_up())
        yield decoder, runner.run
        decoder.close()


@pytest.fixture(scope="module")
def decoder():
    with decoding() as both:
        yield both


def children(decoder):
    """The processes that decode just now."""
    pid = decoder._process.pid
    found = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def alone(decoder):
    """Whether nothing is decoded any more, before long."""
    until = time.monotonic() + 5
    while children(decoder) and time.monotonic() < until:
        time.sleep(0.01)
    return not children(decoder)


def refused(decoder, data):
    one, run = decoder
    with pytest.raises(HTTPException) as caught:
        run(one.decode(data))
    return caught.value


def test_every_hostile_file_has_its_outcome_and_good_ones_go_on(decoder):
    one, run = decoder
    parent = one._process.pid
    for status, files in ((413, TOO_LARGE), (415, NO_IMAGE)):
        for name, data in files.items():
            assert refused(decoder, data).status_code == status, name
    for data in GOOD.values():
        np.testing.assert_array_equal(run(one.decode(data)), PIXELS)
    assert one._process.pid == parent
    assert one._process.poll() is None
    assert alone(one)


def test_upload_that_kills_its_child_leaves_the_others_alone(decoder):
    one, run = decoder

    async def both():
        killed = asyncio.create_task(one.decode(slow()))
        while not children(one):
            await asyncio.sleep(0.001)
        (victim,) = children(one)
        other = asyncio.create_task(one.decode(picture()))
        os.kill(victim, signal.SIGSEGV)
        return await asyncio.gather(killed, other, return_exceptions=True)

    error, pixels = run(both())
    assert (error.status_code, "ended its decoder" in error.detail) == (415, True)
    np.testing.assert_array_equal(pixels, PIXELS)


def slow():
    """An image that is decoded for some tenths of a second of CPU time."""
    noise = np.random.default_rng(0).integers(0, 16, (4096, 4096, 3), np.uint8)
    return picture(pixels=noise, compress_level=1)


def test_upload_that_takes_too_long_is_ended_by_the_kernel():
    with decoding(decode_timeout=0.15) as (one, run):
        data = slow()
        assert refused((one, run), data).status_code == 422
        time.sleep(0.1)
        assert alone(one)
        np.testing.assert_array_equal(run(one.decode(picture())), PIXELS)


def test_parent_of_the_children_that_was_killed_is_started_again():
    with decoding() as (one, run):
        one._process.kill()
        one._process.wait()
        np.testing.assert_array_equal(run(one.decode(picture())), PIXELS)


def test_children_end_with_the_server():
    decoder = Decoder(Settings())
    with asyncio.Runner() as runner:
        runner.run(decoder.warm_up())
    process = decoder._process
    decoder._control.close()  # as the kernel does when the server is killed
    assert process.wait(5) == 0


PROGRAM = """
import os, resource, socket
from rejepa_jax.serve.decoding_child import confine
confine(5, 2**26)
for name, act in {
    "memory": lambda: bytearray(2**27),
    "file": lambda: open("x", "wb", buffering=0).write(b"x"),
    "files": lambda: [os.dup(0) for _ in range(20)],
}.items():
    try:
        act()
        print(name, "allowed")
    except (MemoryError, OSError, ValueError, ZeroDivisionError) as error:
        print(name, type(error).__name__)
"""


def test_child_can_take_no_memory_and_write_no_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[:3] == ["memory MemoryError", "file OSError", "files OSError"]
    assert not (tmp_path / "x").read_bytes()


def test_child_sees_nothing_of_the_server(monkeypatch):
    monkeypatch.setenv("REJEPA_TOKEN", "secret")
    ours, theirs = socket.socketpair()
    with decoding() as (one, _), ours, theirs:
        environment = pathlib.Path(f"/proc/{one._process.pid}/environ").read_bytes()
        held = list(pathlib.Path(f"/proc/{one._process.pid}/fd").iterdir())
    assert b"secret" not in environment
    assert len(held) <= 6  # in, out, error, the line to the server
