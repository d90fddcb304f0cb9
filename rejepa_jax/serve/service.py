"""What the requests of one server share: searcher, threads, decoders, numbers."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread
import numpy as np
from absl import logging
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rejepa_jax.retrieval.queries import Query
from rejepa_jax.retrieval.search import Searcher
from rejepa_jax.serve import describing, replies
from rejepa_jax.serve.settings import Settings
from rejepa_jax.serve.telemetry import Telemetry
from rejepa_jax.serve.uploads import Decoder
from rejepa_jax.types import ConfigError, DataError

T = TypeVar("T")
WARM_K = 24  # hits; what is compiled serves up to the next power of two
WARM_QUERIES = (1, 2, 4, 8, 16, 32)  # searched together


class Service:
    """One server's state."""

    def __init__(self, searcher: Searcher, settings: Settings):
        self.settings = settings
        self.telemetry = Telemetry()
        self.decoder = Decoder(settings)
        self.searcher = searcher
        self.uploads = asyncio.Semaphore(settings.decoders)  # requests that hold pixels
        self.is_ready = False
        self._threads = anyio.CapacityLimiter(settings.max_requests)
        self.info = self._look()

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Does work that blocks in a thread; gives up waiting after `answer_timeout`."""
        try:
            async with asyncio.timeout(self.settings.answer_timeout):
                return await anyio.to_thread.run_sync(
                    work, *arguments, abandon_on_cancel=True, limiter=self._threads
                )
        except TimeoutError as error:
            text = f"got no answer within {self.settings.answer_timeout:g} s; try again later"
            raise HTTPException(503, text, {"Retry-After": "5"}) from error

    def take_up_new_version(self) -> None:
        """Takes up what was published last, if it is another version; requests go on meanwhile."""
        if self.searcher.reload():
            self.telemetry.swaps.inc()
            self.info = self._look()

    async def warm_up(self) -> None:
        """Does once what the first requests would else wait for: starts, loads, compiles."""
        await self.decoder.warm_up()
        await anyio.to_thread.run_sync(self._compile, abandon_on_cancel=True)

    def _compile(self) -> None:
        collection, record = self.searcher.collection, self.searcher.bundle.record
        image = np.indices(record.shape).sum(axis=0).astype(record.dtype)
        k = min(WARM_K, collection.rows)
        try:
            self.searcher.search(Query(images=(image,)), k)
            vector = collection.vectors(np.flatnonzero(collection.catalogue.live)[:1])
            for count in WARM_QUERIES:
                collection.search(np.repeat(vector, count, axis=0), k)
        except (ConfigError, DataError) as error:  # such as: all images were deleted
            logging.warning("not warmed up: %s", error)

    def _look(self) -> replies.Info:
        """Says once a version what is searched, and shows it to who watches."""
        info = describing.info(self.searcher, self.settings)
        self.telemetry.show_index(info.rows, info.version, info.fingerprint)
        return info

    def close(self) -> None:
        """Ends the decoders; what still runs in threads ends with the process."""
        self.decoder.close()


def service(request: Request) -> Service:
    """Finds the service that a request belongs to."""
    return request.app.state.service
