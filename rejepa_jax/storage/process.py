"""Which process this is, so that any other can say whether it is still there."""

import os
import pathlib
import socket
from typing import Any


def whoami() -> dict[str, Any]:
    """Says which process this is; containers that share a kernel are machines of their own."""
    host, pid = socket.gethostname(), os.getpid()
    spaces = _first_line("/proc/sys/kernel/random/boot_id"), _target("/proc/self/ns/pid")
    return {"host": host, "machine": " ".join([host, *spaces]), "pid": pid, "start": started(pid)}


def started(pid: object) -> str:
    """Returns when a process began, in the machine's ticks; "" if there is none, or no telling."""
    after_name = _first_line(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return after_name[19] if after_name else ""  # field 22 of proc(5)


def _first_line(path: str) -> str:
    try:
        return pathlib.Path(path).read_text().partition("\n")[0]
    except OSError:
        return ""


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
