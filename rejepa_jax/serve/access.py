"""Who may ask: the token, and by what name the server may be called."""

import hashlib
import hmac
import http.cookies
import urllib.parse

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rejepa_jax.serve.errors import refusal
from rejepa_jax.serve.settings import Settings

COOKIE = "rejepa_token"
OPEN_PATHS = ("/healthz", "/readyz")  # what probes ask; they tell nothing
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Gate:
    """Turns away who has no token, and pages of other sites that reach for a loopback server."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app = app
        self._settings = settings
        self._token = settings.token.encode()
        # The cookie holds a digest: it opens this door and does not give the token away.
        self._cookie = hashlib.sha256(b"cookie:" + self._token).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        is_let_in = scope["path"] == "/" and self._is_in_address(scope)
        response = self._refusal(scope, is_let_in)
        if is_let_in and response is None:
            send = self._with_cookie(send)
        await (response or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope, is_let_in: bool) -> Response | None:
        """Returns what to say instead of serving the request, if anything."""
        headers, path = Headers(scope=scope), scope["path"]
        if self._settings.is_loopback and _name(headers.get("host", "")) not in LOOPBACK_NAMES:
            return refusal(
                400,
                f"got Host {headers.get('host', '')[:80]!r}, expected localhost: another name may "
                "lead a stranger's page here; open http://localhost, or serve with --host and a "
                "token",
            )
        if path.startswith("/api/") and headers.get("sec-fetch-site") == "cross-site":
            return refusal(403, "got a request of another site's page, expected our own page")
        if not self._token or path in OPEN_PATHS or is_let_in or self._is_known(headers):
            return None
        return refusal(
            401,
            "got no token or another one, expected the server's; send 'Authorization: Bearer "
            "TOKEN', or open /?token=TOKEN once",
            {"WWW-Authenticate": "Bearer"},
        )

    def _is_known(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._matches(token.strip().encode("latin-1"), self._token)
        cookies = http.cookies.SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except http.cookies.CookieError:
            return False
        cookie = cookies[COOKIE].value if COOKIE in cookies else ""
        return self._matches(cookie.encode("latin-1", "replace"), self._cookie.encode())

    @staticmethod
    def _matches(given: bytes, expected: bytes) -> bool:
        return hmac.compare_digest(given, expected)

    def _is_in_address(self, scope: Scope) -> bool:
        given = dict(urllib.parse.parse_qsl(scope["query_string"].decode("latin-1")))
        return bool(self._token) and self._matches(given.get("token", "").encode(), self._token)

    def _with_cookie(self, send: Send) -> Send:
        """Trades the token in the address for a cookie; the page takes it out of the address.

        Not a redirect: that would still count as coming from wherever the link was, and a strict
        cookie would not be sent along.
        """
        cookie = Response()
        cookie.set_cookie(COOKIE, self._cookie, httponly=True, samesite="strict", path="/")

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["set-cookie"] = cookie.headers["set-cookie"]
                headers["cache-control"] = "no-store"  # nor is it kept under this address
            await send(message)

        return send_with_cookie


def _name(host: str) -> str:
    """The host without its port, lower case."""
    return (host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host).lower()
