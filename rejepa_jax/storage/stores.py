"""Requests to object stores (`gs://`, `s3://`, ...) by fsspec, each with a time limit, tried again.

What fails in passing (a timeout, a lost connection, a 5xx, too many requests) is tried again, with
growing pauses, for REJEPA_STORE_RETRY seconds (120 unless set). An attempt may take
REJEPA_STORE_TIMEOUT seconds (60 unless set), and one more for each MB that it moves. What waiting
does not mend (no such object, no permission, no credentials, a full disk) is raised at once.
"""

import errno
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import fsspec
import fsspec.asyn
import fsspec.config
from absl import logging

from rejepa_jax.types import ConfigError, DataError

T = TypeVar("T")
RETRY, TIMEOUT = "REJEPA_STORE_RETRY", "REJEPA_STORE_TIMEOUT"
_DEFAULTS = {RETRY: 120.0, TIMEOUT: 60.0}
_SLOWEST = 1e6  # bytes a second
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 20.0
_EXTRAS = {"gs": "gs", "gcs": "gs", "s3": "s3", "s3a": "s3"}  # of our package, by protocol
# Connections for many ranges at once; the attempts are counted here, not in the client.
_S3 = {"max_pool_connections": 64, "retries": {"total_max_attempts": 1}}
_LOGINS = {
    "gs": "`gcloud auth application-default login` or GOOGLE_APPLICATION_CREDENTIALS",
    "s3": "`aws configure` or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL",
}
# What the stores' clients raise beside OSError, by module: to be raised it must be imported.
_ERRORS = {
    "aiohttp": ("ClientError",),
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "gcsfs.retry": ("HttpError", "ChecksumError"),
    "google.auth.exceptions": ("GoogleAuthError",),
    "http.client": ("HTTPException",),
}
_REFUSALS = {  # of botocore, the last of google.auth
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "ProfileNotFound",
    "NoRegionError",
    "ParamValidationError",
    "DefaultCredentialsError",
}
_PASSING_STATUS = (408, 425, 429)
_LASTING = {errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class StoreError(RuntimeError):
    """A store did not answer for too long; no data is at fault: run again later (exit code 75)."""


class Store:
    """Where a URL leads: a file system, and the path in it; threads may share one."""

    def __init__(self, url: str):
        """Connects to nothing yet.

        Raises:
            ConfigError: the protocol is unknown, or its package is not installed.
        """
        self.url = url
        self._fs, self.path = _file_system(url)

    def call(self, method: str, *args: Any, volume: int = 0, **options: Any) -> Any:
        """Calls a method of the fsspec file system that moves about `volume` bytes.

        Raises:
            FileNotFoundError: there is no such object or bucket.
            ConfigError: the request was refused.
            DataError: this machine's disk is full.
            StoreError: the store did not answer for too long.
        """
        return patiently(
            self.url, method, lambda: self.once(method, *args, volume=volume, **options)
        )

    def once(self, method: str, *args: Any, volume: int = 0, **options: Any) -> Any:
        """Calls a method a single time, and raises what the file system raises."""
        if method in ("find", "info", "ls"):
            self._fs.invalidate_cache()  # others write too: worker processes, other machines
        if not self._fs.async_impl:
            return getattr(self._fs, method)(*args, **options)
        limit = _seconds(TIMEOUT) + volume / _SLOWEST
        act = getattr(self._fs, "_" + method)
        return fsspec.asyn.sync(self._fs.loop, act, *args, timeout=limit, **options)


def _file_system(url: str) -> tuple[Any, str]:
    protocol = url.partition("://")[0]
    options: dict[str, Any] = {}
    if _EXTRAS.get(protocol) == "s3":
        given = fsspec.config.conf.get(protocol, {})
        options["config_kwargs"] = _S3 | given.get("config_kwargs", {})
        options["max_concurrency"] = given.get("max_concurrency", 1)  # parts of a file in memory
    if protocol == "file":
        options["auto_mkdir"] = True
    try:
        return fsspec.url_to_fs(url, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        do = f"pip install 'rejepa_jax[{extra}]'" if extra else "install it"
        raise ConfigError(f"{url}: {protocol}:// needs a package that is not here; {do}") from error
    except ValueError as error:
        raise ConfigError(
            f"{url}: got the protocol {protocol}://, expected gs://, s3:// or another of fsspec's"
        ) from error


def patiently(url: str, doing: str, act: Callable[[], T]) -> T:
    """Returns what `act` does, tried again while the store fails in passing; raises as `call`."""
    start, attempt = time.monotonic(), 1
    while True:
        try:
            return act()
        except _store_errors() as error:
            _raise_lasting(url, doing, error)
            pause = min(_FIRST_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE)
            pause *= random.uniform(0.5, 1.0)  # so that many machines do not come back at once
            waited, fault = time.monotonic() - start, _tell(error)
            if waited + pause > _seconds(RETRY):
                raise StoreError(
                    f"{url}: {doing} failed {attempt} times in {waited:.0f} s, the last time with "
                    f"{fault}. Look at the network and at the store's state, and run again: what "
                    f"is kept there is kept. {RETRY} (seconds) sets for how long to try"
                ) from error
            logging.warning("%s: %s failed (%s); again in %.1f s", url, doing, fault, pause)
        attempt += 1
        time.sleep(pause)


def _store_errors() -> tuple[type[Exception], ...]:
    """Returns the exceptions that tell of a store's failure."""
    return OSError, *(
        getattr(sys.modules[module], name)
        for module, names in _ERRORS.items()
        if module in sys.modules
        for name in names
    )


def _raise_lasting(url: str, doing: str, error: Exception) -> None:
    """Raises what to tell the user if trying again would not help."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        raise FileNotFoundError(
            f"{url}: {doing} found nothing there ({_tell(error)}); is the bucket's name right?"
        ) from error
    number = error.errno if isinstance(error, OSError) else None
    if number in _NO_ROOM:
        raise DataError(
            f"{url}: {doing} failed on this machine ({_tell(error)}); make room on the disk, or "
            "set REJEPA_CACHE to a folder on another one"
        ) from error
    if not _is_passing(error, number):
        protocol = url.partition("://")[0]
        login = _LOGINS.get(_EXTRAS.get(protocol, ""), f"the settings of fsspec's {protocol}://")
        raise ConfigError(
            f"{url}: {doing} was refused ({_tell(error)}); look at your credentials ({login}), "
            "and at what they may do in this bucket"
        ) from error


def _tell(error: Exception) -> str:
    return "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])


def _is_passing(error: Exception, number: int | None) -> bool:
    """Judges an error by its type, else by its HTTP status, else by its number."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, PermissionError | FileExistsError | IsADirectoryError):
        return False
    if type(error).__name__ in _REFUSALS or str(error).startswith("Forbidden"):  # gcsfs's 403
        return False
    code = status(error)
    if code is not None:
        return code >= 500 or code in _PASSING_STATUS
    return number not in _LASTING


def status(error: BaseException) -> int | None:
    """Returns the HTTP status that an error of a store's client tells of, if it does."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):  # botocore
            return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        for name in ("status", "code"):  # aiohttp, gcsfs
            value = getattr(each, name, None)
            if str(value).isdecimal():
                return int(str(value))
    return None


def _seconds(name: str) -> float:
    text = os.environ.get(name, "")
    try:
        return float(text) if text else _DEFAULTS[name]
    except ValueError as error:
        raise ConfigError(f"{name}: got {text!r}, expected seconds as a number") from error
