"""Uploads are strangers' files: each is decoded in a process of its own, into pixels."""

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time

import numpy as np
from absl import logging
from jaxtyping import Shaped
from starlette.exceptions import HTTPException

from rejepa_jax.serve import decoding_child
from rejepa_jax.serve.settings import Settings

GRACE = 1.0  # seconds that the child's own clock has before ours


class Decoder:
    """Hands files to children of one forking process, which is started when first needed.

    A child that crashes, hangs or takes too much memory ends alone. It has none of the server's
    memory, environment or open files.
    """

    def __init__(self, settings: Settings):
        self._settings = settings
        self._process: subprocess.Popen | None = None
        self._control: socket.socket | None = None

    async def decode(self, data: bytes) -> Shaped[np.ndarray, "h w c"]:
        """Decodes one file.

        Raises:
            HTTPException: 413 too many pixels, 415 no image or a damaged one, 422 too slow.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._settings.decode_timeout + GRACE):
                return await self._ask(data)
        except (TimeoutError, EOFError, ConnectionError) as error:
            raise self._explain(time.monotonic() - started) from error

    async def warm_up(self) -> None:
        """Starts the forking process, and waits until it can decode."""
        with contextlib.suppress(HTTPException):  # nothing is no image
            await self.decode(b"")

    def _explain(self, seconds: float) -> HTTPException:
        most = self._settings.decode_timeout
        if seconds >= most:
            return HTTPException(
                422, f"got an image that took over {most:g} s to decode; send a simpler one"
            )
        text = "got an image that ended its decoder, expected a whole one of moderate size"
        return HTTPException(415, f"{text}; write it anew")

    async def _ask(self, data: bytes) -> Shaped[np.ndarray, "h w c"]:
        reader, writer = await asyncio.open_connection(sock=self._child())
        try:
            request = {
                "size": len(data),
                "max_pixels": self._settings.max_pixels,
                "seconds": self._settings.decode_timeout,
                "memory": decoding_child.MEMORY,
            }
            head = json.dumps(request).encode()
            writer.write(struct.pack("!I", len(head)) + head)
            writer.write(data)
            await writer.drain()
            (size,) = struct.unpack("!I", await reader.readexactly(4))
            facts = json.loads(await reader.readexactly(min(size, 2**16)))
            if facts["status"] != 200:
                raise HTTPException(facts["status"], facts["error"])
            shape, dtype = tuple(facts["shape"]), np.dtype(facts["dtype"])
            size = int(np.prod(shape)) * dtype.itemsize
            pixels = await reader.readexactly(min(size, decoding_child.MAX_DECODED))
            return np.frombuffer(pixels, dtype).reshape(shape)
        finally:
            writer.close()

    def _child(self) -> socket.socket:
        """Has a child forked; returns the line to it."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._control, [b"f"], [theirs.fileno()])
        ours.setblocking(False)
        return ours

    def _start(self) -> None:
        self.close()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", decoding_child.__name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        logging.info("uploads are decoded by children of process %d", self._process.pid)

    def close(self) -> None:
        """Ends the forking process; children end with their uploads, at the latest in time."""
        if self._control is not None and self._process is not None:
            self._control.close()
            try:
                self._process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None


def _environment() -> dict[str, str]:
    """What a decoder needs of the environment: nothing that is secret, no threads."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "JAX_PLATFORMS": "cpu",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
