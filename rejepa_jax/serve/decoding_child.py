"""Decodes one uploaded image in a process that may do nothing else, and dies with it.

`python -m rejepa_jax.serve.decoding_child FD` is the parent of these processes: it has imported the
decoders, and forks a child for every connection that it is handed over the socket FD. The child
takes limits upon itself, reads one request and writes one answer, each a JSON object behind its
length (4 bytes, big-endian) and then raw bytes: the file, and the pixels in C order.
"""

import io
import json
import os
import pathlib
import resource
import signal
import socket
import struct
import sys
import warnings
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Shaped
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from rejepa_jax.data.archives import rasters
from rejepa_jax.types import DataError

# By a file's first bytes, never by its name: these and no other decoders are ever tried.
KINDS = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"II+\0": ".tif",  # BigTIFF
    b"MM\0+": ".tif",
}
FORMATS = ("GeoTIFF", "PNG", "JPEG")
EXPECTED = f"expected a whole {', '.join(FORMATS)} file"
MAX_DECODED = 2**28  # bytes of pixels
MEMORY = 2**30  # bytes that decoding may take beside what is there
MAX_FILES = 16
STATM = pathlib.Path("/proc/self/statm")
TOO_LARGE, NO_IMAGE = 413, 415


class RefusedError(Exception):
    """An upload that is not decoded: HTTP status and sentence."""

    def __init__(self, status: int, error: str):
        super().__init__(error)
        self.status = status


def decode(data: bytes, max_pixels: int) -> Shaped[np.ndarray, "h w c"]:
    """Decodes a file as `rasters.read_image` does, once its header says that it is small enough.

    Raises:
        RefusedError: it is of another kind, too large, or damaged.
    """
    ending = next((KINDS[magic] for magic in KINDS if data.startswith(magic)), None)
    if ending is None:
        raise RefusedError(
            NO_IMAGE, f"got {len(data)} bytes of another kind, {EXPECTED}; convert it"
        )
    name = f"upload{ending}"
    try:
        height, width, size = _header(data, ending)
        if height * width > max_pixels or size > MAX_DECODED:
            raise RefusedError(
                TOO_LARGE,
                f"got an image of {height} x {width} pixels, {size} bytes, expected at most "
                f"{max_pixels} pixels and {MAX_DECODED} bytes; cut or resample it",
            )
        return rasters.read_image(data, name)
    except (Image.DecompressionBombError, MemoryError) as error:
        raise RefusedError(
            TOO_LARGE, "got an image too large to decode; cut or resample it"
        ) from error
    except (DataError, OSError, SyntaxError, ValueError, rasterio.RasterioIOError) as error:
        text = f"got {len(data)} bytes that do not decode, {EXPECTED}; write it anew"
        raise RefusedError(NO_IMAGE, text) from error


def _header(data: bytes, ending: str) -> tuple[int, int, int]:
    """Reads height, width and bytes of the pixels without decoding any."""
    if ending != ".tif":
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            return image.height, image.width, image.height * image.width * 4
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.MemoryFile(data) as file,
        file.open(driver="GTiff") as image,
    ):
        size = sum(np.dtype(dtype).itemsize for dtype in image.dtypes)
        return image.height, image.width, image.height * image.width * size


def confine(seconds: float, memory: int) -> None:
    """Takes from this process what decoding does not need, for good.

    The clock is the process's own: at the deadline the kernel ends it, whatever it is doing.
    """
    limits = {
        resource.RLIMIT_CPU: int(seconds) + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: MAX_FILES,
    }
    if STATM.exists():  # elsewhere than on Linux the kernel keeps no such limit
        pages = int(STATM.read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for name, most in limits.items():
        resource.setrlimit(name, (most, most))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def answer(connection: socket.socket) -> None:
    """Reads one request from the connection, and writes one answer."""
    request = json.loads(_receive(connection, struct.unpack("!I", _receive(connection, 4))[0]))
    confine(request["seconds"], request["memory"])
    try:
        array = decode(_receive(connection, request["size"]), request["max_pixels"])
    except RefusedError as error:
        _send(connection, {"status": error.status, "error": str(error)}, b"")
        return
    facts = {"status": 200, "shape": array.shape, "dtype": array.dtype.str}
    _send(connection, facts, np.ascontiguousarray(array).data)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise SystemExit(0)  # whoever asked has gone
        view = view[count:]
    return bytes(data)


def _send(connection: socket.socket, facts: dict[str, Any], data: bytes | memoryview) -> None:
    head = json.dumps(facts).encode()
    connection.sendall(struct.pack("!I", len(head)) + head)
    connection.sendall(data)


def main(descriptor: int) -> None:
    """Forks a child for each connection handed over, until the server closes its end."""
    # What ends the server comes here too; the server closes its end when the last upload is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended children leave nothing behind
    control = socket.socket(fileno=descriptor)
    _warm_up()
    while True:
        word, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not word:
            return
        if os.fork() == 0:
            control.close()
            _as_child(descriptors[0])
        os.close(descriptors[0])


def _as_child(descriptor: int) -> None:
    """Serves one upload and ends the process without running what the parent would at its end."""
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)  # what decoders complain about is a stranger's to write
        answer(socket.socket(fileno=descriptor))
        code = 0
    finally:
        os._exit(code)


def _warm_up() -> None:
    """Loads the decoders before the first fork, so that no child has to."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    decode(buffer.getvalue(), 1)
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "TIFF")
    decode(buffer.getvalue(), 1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
