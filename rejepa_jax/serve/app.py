"""The application: routes, and around them what every request passes on its way in and out."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

import rejepa_jax
from rejepa_jax.retrieval.search import Searcher
from rejepa_jax.serve import errors, items, probes, searching
from rejepa_jax.serve.access import Gate
from rejepa_jax.serve.headers import SecurityHeaders
from rejepa_jax.serve.limits import BodyLimit, RequestLimit
from rejepa_jax.serve.service import Service
from rejepa_jax.serve.settings import Settings
from rejepa_jax.serve.telemetry import Measured

ABOUT = """Finds images of an Earth-observation archive by what they show.

An error is always `{"error": "got ..., expected ...; do ..."}`."""


def create_app(searcher: Searcher, settings: Settings) -> FastAPI:
    """Makes the application that answers for one searcher."""
    service = Service(searcher, settings)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="rejepa search",
        version=rejepa_jax.__version__,
        description=ABOUT,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        lifespan=life,
    )
    app.state.service = service
    for router in (searching.router, items.router, probes.router):
        app.include_router(router)
    probes.add_page(app)
    errors.add_handlers(app)
    # The last one added is passed first.
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(RequestLimit, settings=settings)
    app.add_middleware(Gate, settings=settings)
    app.add_middleware(Measured, telemetry=service.telemetry)
    app.add_middleware(SecurityHeaders)
    return app
