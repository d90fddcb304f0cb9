"""What a Prometheus server reads: requests, latency, the index, uploads that did not decode."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Telemetry:
    """The numbers of one server, in a registry of its own so that several can share a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self.requests = Counter("rejepa_requests", "Requests answered.", ("route", "code"), **own)
        self.seconds = Histogram(
            "rejepa_request_seconds", "Time to answer.", ("route",), buckets=SECONDS, **own
        )
        self.in_flight = Gauge("rejepa_requests_in_flight", "Requests being answered.", **own)
        self.rows = Gauge("rejepa_index_rows", "Images that are searched.", **own)
        self.index = Info("rejepa_index", "Version and fingerprint of what is searched.", **own)
        self.swaps = Counter("rejepa_index_swaps", "New versions taken up.", **own)
        self.decode_failures = Counter(
            "rejepa_decode_failures", "Uploads that did not decode.", ("code",), **own
        )

    def show_index(self, rows: int, version: str, fingerprint: str) -> None:
        """Sets what is said about the collection."""
        self.rows.set(rows)
        self.index.info({"version": version, "fingerprint": fingerprint})

    def text(self) -> bytes:
        """Returns everything in Prometheus's text format."""
        return generate_latest(self.registry)


class Measured:
    """Counts and times every request by the pattern of its route."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry):
        self.app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        code, start = 500, time.perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        with self._telemetry.in_flight.track_inprogress():
            try:
                await self.app(scope, receive, send_and_note)
            finally:
                route = _route(scope)
                self._telemetry.requests.labels(route, str(code)).inc()
                self._telemetry.seconds.labels(route).observe(time.perf_counter() - start)


def _route(scope: Scope) -> str:
    """The pattern that matched: never a client's own words, of which there are too many."""
    if scope["path"].startswith("/static/"):
        return "/static"
    return getattr(scope.get("route"), "path", "other")
