"""How much of a request is read, how long that may take, and how many are answered at a time."""

import asyncio
import contextlib
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rejepa_jax.serve.errors import refusal
from rejepa_jax.serve.settings import Settings

MAX_TEXT = 4 * 2**20  # bytes of a body that is no form of files
CLIENT_GONE = 499  # nobody reads it; the metrics count it
CLOSE = {"Connection": "close"}
LINGER, LINGER_BYTES = 2.0, 2**26  # for how long what was refused is still read, and how much


class BodyLimit:
    """Reads no more of a body than `max_body` bytes, for no longer than `body_timeout`."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app = app
        self._most, self._timeout = settings.max_body, settings.body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "0")
        is_form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        most = self._most if is_form else min(self._most, MAX_TEXT)
        if int(declared) > most:  # the server beneath has seen that it is a number
            await _linger(receive)
            await refusal(413, _too_large(declared, most), CLOSE)(scope, receive, send)
            return
        await self.app(scope, self._limited(receive, most), send)

    def _limited(self, receive: Receive, most: int) -> Receive:
        size, until = 0, time.monotonic() + self._timeout
        is_whole = False

        async def receive_within_limits() -> Message:
            nonlocal size, is_whole
            if is_whole:  # what follows is only the news that the client left
                return await receive()
            try:
                async with asyncio.timeout(max(until - time.monotonic(), 0)):
                    message = await receive()
            except TimeoutError as error:
                raise HTTPException(
                    408,
                    f"got {size} bytes in {self._timeout:g} s, expected the whole body by then; "
                    "send it over a faster line or send less",
                    CLOSE,
                ) from error
            if message["type"] == "http.disconnect":
                raise HTTPException(CLIENT_GONE, "the client went away")
            size += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if size > most:
                await _linger(receive)
                raise HTTPException(413, _too_large(f"more than {most}", most), CLOSE)
            return message

        return receive_within_limits


async def _linger(receive: Receive) -> None:
    """Reads on for a moment: a sender whose line is cut while it sends hears no answer."""
    left = LINGER_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b"")) if message.get("more_body") else left


def _too_large(got: str, most: int) -> str:
    return (
        f"got a body of {got[:20]} bytes, expected at most {most}; send a smaller image, or serve "
        "with a larger --max_body"
    )


class RequestLimit:
    """Answers a bounded number of API requests at a time; the next ones are told to come again."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app = app
        self._most = settings.max_requests
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self.app(scope, receive, send)  # probes and the page are always answered
            return
        if self._running >= self._most:
            text = f"got {self._running} requests at once, expected at most {self._most}; try again"
            await refusal(429, text, {"Retry-After": "1"})(scope, receive, send)
            return
        self._running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._running -= 1
