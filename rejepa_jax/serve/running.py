"""A server from its first request to its last: warm-up, new versions, an orderly end."""

import asyncio
import contextlib
import ctypes
import signal
import socket
from collections.abc import Iterator

import anyio.to_thread
import uvicorn
from absl import logging
from fastapi import FastAPI

from rejepa_jax.console import say
from rejepa_jax.serve.service import Service
from rejepa_jax.serve.settings import Settings
from rejepa_jax.types import ConfigError

M_ARENA_MAX, M_MMAP_THRESHOLD = -8, -3  # of malloc.h
OWN_PAGES = 1 << 18  # bytes from which an array has pages of its own, given back when it goes
CONNECTIONS = 1000  # open at a time; beyond, uvicorn itself answers 503
KEEP_ALIVE = 65  # seconds; longer than proxies keep theirs, so that none finds it just closed


def run(app: FastAPI, settings: Settings) -> None:
    """Serves until a signal ends it; what is being answered by then is finished.

    Raises:
        ConfigError: the address cannot be bound.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # addresses may hold a token
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
    )
    _share_memory()
    with _bind(settings) as listening:
        host, port = listening.getsockname()[:2]
        say(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
        asyncio.run(_live(Server(config), app.state.service, listening))


def _share_memory() -> None:
    """Has threads allocate from two heaps in place of eight a core, each of which keeps its most.

    And keeps masks and scores, whose size differs from search to search, out of these heaps. Only
    the GNU C library has the call and needs it.
    """
    if change := getattr(ctypes.CDLL(None), "mallopt", None):
        change(M_ARENA_MAX, 2)
        change(M_MMAP_THRESHOLD, OWN_PAGES)


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except (OSError, OverflowError) as error:
        why = str(error).partition(" (while")[0]
        address = f"--host {settings.host} --port {settings.port}"
        raise ConfigError(f"{address}: {why}; choose another") from error


class Server(uvicorn.Server):
    """Uvicorn, with signals left to us: it would end with the signal, not with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


async def _live(server: Server, service: Service, listening: socket.socket) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, _end, server, stop)
    serving = asyncio.create_task(server.serve([listening]))
    looking = asyncio.create_task(_look_for_versions(service))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, looking, stopping), return_when=asyncio.FIRST_COMPLETED)
    service.is_ready = False
    if stop.is_set():
        logging.info("stopping: not ready any more; then what is running is finished")
        await asyncio.sleep(service.settings.drain_notice)
    server.should_exit = True
    await serving
    if looking.done():
        looking.result()  # what it ended with
    for task in (looking, stopping):
        task.cancel()


def _end(server: Server, stop: asyncio.Event) -> None:
    """Ends the server in order at the first signal, at once at the second."""
    if stop.is_set():
        server.should_exit = server.force_exit = True
    stop.set()


async def _look_for_versions(service: Service) -> None:
    """Warms the server up, then takes up every version that is published."""
    await service.warm_up()
    service.is_ready = True
    logging.info("ready")
    while True:
        await asyncio.sleep(service.settings.poll)
        look = anyio.to_thread.run_sync(service.take_up_new_version, abandon_on_cancel=True)
        done, _ = await asyncio.wait({asyncio.create_task(look)})
        if error := done.pop().exception():  # the version that there is serves on
            logging.error("looking for a new version failed", exc_info=error)
