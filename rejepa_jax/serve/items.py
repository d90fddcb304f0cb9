"""The routes that show images of the collection without searching: facts, map, pictures, files."""

import math
import pathlib
import tempfile
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from rejepa_jax.retrieval import answers
from rejepa_jax.retrieval.collection.collection import Collection
from rejepa_jax.retrieval.hits import hits_of
from rejepa_jax.serve import describing, models, replies
from rejepa_jax.serve.querying import find
from rejepa_jax.serve.searching import FAILURES, Serving
from rejepa_jax.serve.settings import MAX_ITEMS

FORMATS = {
    "geojson": "application/geo+json",
    "geoparquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
    "json": "application/json",
}
ENDINGS = {"geoparquet": "parquet"}
router = APIRouter(prefix="/api", tags=["collection"])
Row = Annotated[int, Path(ge=0, le=2**53, description="number of the image in its version")]
OfVersion = Annotated[
    str | None, Query(max_length=100, description="the version that the row was found in")
]
OF_A_ROW = FAILURES | {410: {"model": replies.Failure, "description": "a row of another version"}}


@router.get("/info", response_model=replies.Info, responses=FAILURES)
async def info(serving: Serving) -> replies.Info:
    """Says what is searched here, and what a query may hold."""
    return serving.info


@router.get("/items", response_model=replies.Points, responses=FAILURES)
async def items(
    serving: Serving,
    bbox: Annotated[
        str | None,
        Query(max_length=200, description="west,south,east,north", examples=["10,40,12,42"]),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_ITEMS)] = 5000,
) -> JSONResponse:
    """Shows where images lie, as GeoJSON: at most `limit` of them, spread over all."""
    box = _box(bbox)
    collection = serving.searcher.collection
    return JSONResponse(await serving.run(describing.points, collection, box, limit))


@router.get("/items/{row}", response_model=replies.Item, responses=OF_A_ROW)
async def item(row: Row, serving: Serving, v: OfVersion = None) -> JSONResponse:
    """Says what is known of one image."""
    collection = serving.searcher.collection
    check_row(collection, row, v)
    return JSONResponse(await serving.run(_item, collection, row, serving.info.has_thumbnails))


def _item(collection: Collection, row: int, is_shown: bool) -> dict[str, Any]:
    return describing.item(collection.catalogue.facts(row), collection.version, is_shown)


@router.get(
    "/thumbnails/{row}",
    response_class=Response,
    responses=OF_A_ROW | {200: {"content": {"image/webp": {}}}},
)
async def thumbnail(row: Row, serving: Serving, v: OfVersion = None) -> Response:
    """Shows a small picture of one image."""
    collection = serving.searcher.collection
    check_row(collection, row, v)
    picture = await serving.run(collection.thumbnail, row)
    if picture is None:
        raise HTTPException(404, f"got row {row}, which has no thumbnail; export with thumbnails")
    # Only an address that names its version may be kept: another version may count otherwise.
    keep = "no-store" if v is None else "private, max-age=86400, immutable"
    return Response(picture, media_type="image/webp", headers={"Cache-Control": keep})


@router.post(
    "/download",
    response_class=Response,
    responses=FAILURES | {200: {"content": {kind: {} for kind in FORMATS.values()}}},
)
async def download(
    body: models.DownloadRequest,
    serving: Serving,
    form: Annotated[models.Form, Query(alias="format")] = "geojson",
) -> Response:
    """Writes images into a file, in the order given."""
    content = await serving.run(_file, serving.searcher.collection, body, form)
    name = f'attachment; filename="hits.{ENDINGS.get(form, form)}"'
    return Response(content, media_type=FORMATS[form], headers={"Content-Disposition": name})


def _file(collection: Collection, body: models.DownloadRequest, form: models.Form) -> bytes:
    rows = find(collection, body.ids)
    hits = hits_of(collection, rows, body.scores or [math.nan] * len(rows))
    if form == "geoparquet":
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "hits.parquet")
            answers.write_geoparquet(hits, path)
            return path.read_bytes()
    texts = {"geojson": answers.as_geojson, "csv": answers.as_csv, "json": answers.as_json}
    return texts[form](hits).encode()


def check_row(collection: Collection, row: int, version: str | None) -> None:
    """Refuses a row of another version, where it may be another image; and one that is not there.

    A row without a version is taken for one of the version that is searched now.
    """
    if version not in (None, collection.version):
        raise HTTPException(
            410,
            f"got a row of the version {version!r}, expected one of {collection.version}; "
            "search again",
        )
    catalogue = collection.catalogue
    if row >= catalogue.rows or not catalogue.live[row]:
        raise HTTPException(404, f"got row {row}, which is not there; use a row of an answer")


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        west, south, east, north = box = [float(edge) for edge in text.split(",")]
        models.check_box(box)
    except ValueError as error:
        raise HTTPException(
            422, f"got bbox {text[:80]!r}, expected west,south,east,north in degrees"
        ) from error
    return west, south, east, north
