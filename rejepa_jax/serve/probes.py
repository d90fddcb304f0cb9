"""The routes that are no search: the page, its files, and what watches over a server."""

import mimetypes
import pathlib

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from rejepa_jax.serve.errors import refusal
from rejepa_jax.serve.searching import FAILURES, Serving

STATIC = pathlib.Path(__file__).parent / "static"
router = APIRouter(tags=["server"])
MIME_TYPES = {  # not known everywhere, and a browser runs no script of another type
    ".mjs": "text/javascript",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".wasm": "application/wasm",
    ".pbf": "application/x-protobuf",
    ".woff2": "font/woff2",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}


def add_page(app: FastAPI, directory: pathlib.Path = STATIC) -> None:
    """Serves the page and its files: no other file, wherever links or `..` may lead."""
    for ending, kind in MIME_TYPES.items():
        mimetypes.add_type(kind, ending)
    files = StaticFiles(directory=directory)

    @app.get("/", include_in_schema=False, response_model=None)
    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    app.mount("/static", files, name="static")


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Says that the process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: FAILURES[503]}, response_model=None)
async def readyz(serving: Serving) -> JSONResponse:
    """Says whether requests should be sent here: not before it is warm, nor while it stops."""
    if serving.is_ready:
        return JSONResponse({"status": "ready"})
    return refusal(503, "got a server that is starting or stopping; ask another, or later")


@router.get("/metrics", response_class=Response)
async def metrics(serving: Serving) -> Response:
    """Shows the server's numbers in Prometheus's text format."""
    return Response(serving.telemetry.text(), media_type="text/plain; version=0.0.4")
