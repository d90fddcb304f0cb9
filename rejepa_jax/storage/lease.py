"""One writer of a run at a time, on one machine or on several, with file locks or without.

The writer keeps `lease.json` in the run directory, and in the bucket that this is a mirror of, and
writes it anew every few seconds. Whether a writer on another machine lives is seen by watching
whether that still changes: no two clocks are compared, and none is read that can be set. On this
machine it is known at once, by the lock on the directory, which ends with the process that has it;
where the file system has no locks, by the process itself.
"""

import contextlib
import errno
import json
import os
import pathlib
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

from absl import logging

from rejepa_jax.storage import files, mirror, process
from rejepa_jax.storage.json_files import write_json
from rejepa_jax.storage.readers import is_remote, join
from rejepa_jax.storage.stores import StoreError
from rejepa_jax.types import ConfigError, DataError

LEASE = "lease.json"
BEAT = 10.0  # seconds between two writings
DEAD = 60.0  # seconds without a change after which a writer on another machine is given up
SETTLE = 2.0  # seconds after which, without locks, the later of two that begin at once has won
LOST = 2  # exit code of a writer whose run another has taken over
NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EBADF, errno.EINVAL)

Said = dict[str, Any]  # what a lease says; empty if there is none, or it is not to be understood


@contextlib.contextmanager
def hold(run: pathlib.Path) -> Iterator[None]:
    """Keeps other writers out of a run while it lasts.

    Raises:
        ConfigError: another process writes there; names it, its machine and for how long.
        DataError: the directory cannot be written.
    """
    run.mkdir(parents=True, exist_ok=True)
    me = process.whoami() | {"token": secrets.token_hex(8)}
    with contextlib.ExitStack() as stack:
        has_lock = stack.enter_context(_lock(run))
        stack.enter_context(_Lease(str(run / LEASE), me).held(has_lock))
        if mirror.find(run):
            url = join(mirror.address(run), LEASE)
            stack.enter_context(_Lease(url, me).held(has_lock=False))
        yield


@contextlib.contextmanager
def _lock(run: pathlib.Path) -> Iterator[bool]:
    """Locks the directory itself; false where that cannot be done."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        yield False
        return
    handle = os.open(run, os.O_RDONLY)
    has_lock = True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        where = str(run / LEASE)
        raise _refusal(where, _understood(_read(where))) from error
    except OSError as error:
        has_lock = False
        if error.errno not in NO_LOCKS:
            os.close(handle)
            raise
    try:
        yield has_lock
    finally:
        os.close(handle)


class _Lease:
    """One file or object that says who writes."""

    def __init__(self, where: str, me: Said):
        self._where, self._me = where, me
        self._began, self._over = time.monotonic(), threading.Event()

    @contextlib.contextmanager
    def held(self, has_lock: bool) -> Iterator[None]:
        """Takes it, tells from a thread that it is in use, and gives it back."""
        self._take(has_lock)
        thread = threading.Thread(target=self._renew, name="renew-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            with contextlib.suppress(OSError, StoreError):  # then the next one watches it
                if _understood(_read(self._where)).get("token") == self._me["token"]:
                    _remove(self._where)

    def _take(self, has_lock: bool) -> None:
        if found := _read(self._where):
            before = _understood(found)
            if not self._is_gone(found, before, has_lock):
                raise _refusal(self._where, before)
            logging.warning("%s: taken over from %s, which is gone", self._where, _named(before))
        try:
            self._write()
        except OSError as error:
            raise DataError(f"{self._where}: cannot be written: {error}; mend that") from error
        if not has_lock:
            time.sleep(SETTLE)
            now = _understood(_read(self._where))
            if now.get("token") != self._me["token"]:
                raise _refusal(self._where, now)

    def _is_gone(self, found: bytes, before: Said, has_lock: bool) -> bool:
        if self._me["start"] and before.get("machine") == self._me["machine"]:
            return has_lock or process.started(before.get("pid")) != before.get("start")
        text = "%s: held by %s; watching for up to %.0f s whether that lives"
        logging.warning(text, self._where, _named(before), DEAD)
        end = time.monotonic() + DEAD
        while time.monotonic() < end:
            time.sleep(BEAT / 5)
            if (now := _read(self._where)) != found:
                return not now  # it was given back
        return True

    def _renew(self) -> None:
        while not self._over.wait(BEAT):
            try:
                now = _understood(_read(self._where))
                if now.get("token", self._me["token"]) != self._me["token"]:
                    self._end(now)
                self._write()
            except (OSError, StoreError) as error:
                logging.warning("%s: not renewed, tried again: %s", self._where, error)

    def _end(self, now: Said) -> None:
        """Ends this process, which slept or had no network: what it writes now is in the way."""
        text = "%s: taken over by %s, as there was no sign of life from here for %.0f s; ending"
        logging.error(text, self._where, _named(now), DEAD)
        os._exit(LOST)

    def _write(self) -> None:
        said = self._me | {"held": round(time.monotonic() - self._began)}
        if is_remote(self._where):
            files.write_bytes(self._where, json.dumps(said).encode())
        else:
            write_json(pathlib.Path(self._where), said)


def _read(where: str) -> bytes:
    try:
        return files.read_bytes(where)
    except FileNotFoundError:
        return b""


def _understood(found: bytes) -> Said:
    try:
        said = json.loads(found or b"{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _remove(where: str) -> None:
    if is_remote(where):
        parent, _, name = where.rpartition("/")
        files.remove(parent, [name])
    else:
        pathlib.Path(where).unlink(missing_ok=True)


def _refusal(where: str, writer: Said) -> ConfigError:
    return ConfigError(
        f"{where.removesuffix('/' + LEASE)}: got a second writer while {_named(writer)} is at "
        "work, expected one at a time; wait for it, stop it, or give another --workdir"
    )


def _named(writer: Said) -> str:
    pid, host, held = (writer.get(key, "?") for key in ("pid", "host", "held"))
    return f"process {pid} on {host} (writing for {held} s when it last said so)"
