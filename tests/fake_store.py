"""An object store in memory, `fake://`, that fails on purpose: by plan, or from some request on."""

import asyncio
import errno
import pathlib
from typing import ClassVar

import fsspec
import numpy as np
from fsspec.asyn import AsyncFileSystem

WRITES = ("pipe", "put", "cp", "rm")


DATA = bytes(np.random.default_rng(0).integers(0, 256, 300_000, np.uint8))


class LostError(Exception):
    """This machine is gone: nothing that it does arrives any more."""


class ClientError(OSError):
    """As clients of stores tell of a status; `errno` is as useless as in s3fs."""

    def __init__(self, code):
        super().__init__(errno.EIO, f"HTTP {code}")
        self.status = code


class FakeStore(AsyncFileSystem):
    """Objects by path. Each request is noted, and may be made to fail or to hang."""

    protocol = "fake"
    objects: ClassVar[dict[str, bytes]] = {}
    requests: ClassVar[list[tuple[str, str]]] = []
    faults: ClassVar[list[Exception | float | None]] = []  # of the next requests; a number hangs
    writes_left: ClassVar[list[int]] = []  # how many more writes arrive before the machine is lost

    @classmethod
    def reset(cls):
        for state in (cls.objects, cls.requests, cls.faults, cls.writes_left):
            state.clear()

    @classmethod
    def below(cls, url):
        """The objects below a URL, by name from there."""
        start = cls._strip_protocol(url) + "/"
        return {k.removeprefix(start): v for k, v in cls.objects.items() if k.startswith(start)}

    async def _request(self, kind, path):
        self.requests.append((kind, path))
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        await asyncio.sleep(fault or 0)
        if kind in WRITES and self.writes_left:
            if self.writes_left[0] == 0:
                raise LostError(f"{kind} {path}")
            self.writes_left[0] -= 1

    def _at(self, path):
        path = self._strip_protocol(path)
        if path not in self.objects:
            raise FileNotFoundError(path)
        return path

    async def _info(self, path, **_):
        await self._request("info", path)
        path = self._at(path)
        return {"name": path, "size": len(self.objects[path]), "type": "file"}

    async def _find(self, path, **_):
        await self._request("find", path)
        start = self._strip_protocol(path) + "/"
        names = [name for name in self.objects if name.startswith(start)]
        return {n: {"name": n, "size": len(self.objects[n]), "type": "file"} for n in names}

    async def _ls(self, path, **_):
        await self._request("ls", path)
        start = self._strip_protocol(path) + "/"
        rest = [n.removeprefix(start) for n in self.objects if n.startswith(start)]
        folders = {start + name.partition("/")[0] for name in rest if "/" in name}
        return [{"name": name, "size": 0, "type": "directory"} for name in sorted(folders)]

    async def _cat_file(self, path, start=None, end=None, **_):
        await self._request("cat", path)
        return self.objects[self._at(path)][start:end]

    async def _get_file(self, path, local, **_):
        await self._request("get", path)
        pathlib.Path(local).write_bytes(self.objects[self._at(path)])

    async def _pipe_file(self, path, value, **_):
        await self._request("pipe", path)
        self.objects[self._strip_protocol(path)] = bytes(value)

    async def _put_file(self, local, path, **_):
        await self._request("put", path)
        self.objects[self._strip_protocol(path)] = pathlib.Path(local).read_bytes()

    async def _cp_file(self, source, target, **_):
        await self._request("cp", target)
        self.objects[self._strip_protocol(target)] = self.objects[self._at(source)]

    async def _rm_file(self, path, **_):
        await self._request("rm", path)
        del self.objects[self._at(path)]


fsspec.register_implementation("fake", FakeStore, clobber=True)
