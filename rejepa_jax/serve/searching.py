"""The routes that search: by examples and vectors, and by uploaded images."""

import time
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from rejepa_jax.retrieval.query_images import MODES
from rejepa_jax.serve import describing, models, replies
from rejepa_jax.serve.decoding_child import MAX_DECODED
from rejepa_jax.serve.errors import explain, without_paths
from rejepa_jax.serve.querying import check_grid, filter_of, find, pinned, query_of
from rejepa_jax.serve.service import Service, service
from rejepa_jax.types import ConfigError, DataError

router = APIRouter(prefix="/api", tags=["search"])
Serving = Annotated[Service, Depends(service)]
MAX_TEXT = 2**20  # bytes of the form's `request`
FAILURES: dict[int | str, dict[str, Any]] = {
    code: {"model": replies.Failure, "description": meaning}
    for code, meaning in {
        400: "cannot be read",
        401: "no token",
        403: "another site's page",
        404: "no such image",
        408: "too slow",
        413: "too large",
        415: "no image",
        422: "not as described here",
        429: "busy: come again",
        500: "a fault of the server, logged under the number given",
        503: "not answered in time, or stopping",
    }.items()
}
FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "GeoTIFF, PNG or JPEG",
                        },
                        "request": {"type": "string", "description": "JSON of a SearchRequest"},
                        "mode": {"type": "string", "enum": list(MODES), "default": "resize"},
                    },
                }
            }
        },
    }
}


@router.post("/search", response_model=replies.Answer, responses=FAILURES)
async def search(body: models.SearchRequest, serving: Serving) -> JSONResponse:
    """Finds the images most like the examples, and least like the counterexamples."""
    if not body.has_example:
        raise HTTPException(422, "got no example, expected positive, vector, crop or point")
    return JSONResponse(await serving.run(answer, serving, body, (), "resize"))


@router.post("/search/image", response_model=replies.Answer, responses=FAILURES, openapi_extra=FORM)
async def search_image(request: Request, serving: Serving) -> JSONResponse:
    """Finds the images most like one or several uploaded ones.

    `resize` takes the central square of an image, resampled to the size that the encoder knows;
    `grid` cuts a larger one into patches of that size and averages their descriptors.
    """
    settings = serving.settings
    content = request.headers.get("content-type", "")
    if not content.lower().startswith("multipart/form-data"):
        raise HTTPException(415, f"got {content[:80]!r}, expected multipart/form-data with files")
    async with request.form(
        max_files=settings.max_uploads, max_fields=2, max_part_size=MAX_TEXT
    ) as form:
        body, mode, files = _read(form)
        async with serving.uploads:  # pixels are large: few requests hold some at a time
            images = await _decode_all(serving, files, mode)
            return JSONResponse(await serving.run(answer, serving, body, images, mode))


async def _decode_all(
    serving: Service, files: list[UploadFile], mode: str
) -> tuple[np.ndarray, ...]:
    """Decodes files one by one, as long as there is room for their pixels."""
    images = []
    for file in files:
        image = await _decode(serving, await file.read(), file)
        if mode == "grid":
            check_grid(image.shape, serving.searcher.bundle.record, serving.settings.max_patches)
        images.append(image)
        if sum(image.nbytes for image in images) > MAX_DECODED:
            raise HTTPException(413, f"got files of over {MAX_DECODED} bytes of pixels; send fewer")
    return tuple(images)


async def _decode(serving: Service, data: bytes, file: UploadFile) -> np.ndarray:
    try:
        return await serving.decoder.decode(data)
    except HTTPException as error:
        serving.telemetry.decode_failures.labels(str(error.status_code)).inc()
        name = (file.filename or "")[:80]
        raise HTTPException(error.status_code, f"{name!r}: {error.detail}") from error


def _read(form: FormData) -> tuple[models.SearchRequest, str, list[UploadFile]]:
    """Takes a form apart: the request, the mode and the files, of which there is at least one."""
    if unknown := set(form) - {"files", "request", "mode"}:
        raise HTTPException(
            422, f"got a part {min(unknown)[:80]!r}, expected files, request and mode; leave it out"
        )
    files = [part for part in form.getlist("files") if isinstance(part, UploadFile)]
    texts = {name: form.get(name, "") for name in ("request", "mode")}
    if not files or len(files) < len(form.getlist("files")):
        raise HTTPException(422, "got no file in the part 'files', expected one or more images")
    mode, text = texts["mode"] or "resize", texts["request"] or "{}"
    if mode not in MODES or not isinstance(text, str):
        raise HTTPException(422, f"got mode {str(mode)[:80]!r}, expected {' or '.join(MODES)}")
    try:
        return models.SearchRequest.model_validate_json(text), str(mode), files
    except ValidationError as error:
        raise HTTPException(422, "request: " + explain(error.errors())) from error


def answer(
    serving: Service, body: models.SearchRequest, images: tuple[np.ndarray, ...], mode: str
) -> dict[str, Any]:
    """Answers one query out of one version of the collection, as `replies.Answer`."""
    start, searcher = time.perf_counter(), pinned(serving.searcher)
    query, where = query_of(body, images, mode), filter_of(body.filters)
    k = min(body.k, max(searcher.collection.rows, 1))
    try:
        found = searcher.answer(query, k, where, exclude_same_place=body.exclude_same_place)
    except (ConfigError, DataError) as error:
        find(searcher.collection, [*query.positive, *query.negative])  # a 404 if that is why
        raise HTTPException(422, without_paths(str(error))) from error
    is_shown = serving.info.has_thumbnails
    hits = [
        {"rank": hit.rank, "score": hit.score} | describing.item(vars(hit), found.version, is_shown)
        for hit in found.hits
    ]
    return {
        "version": found.version,
        "searched": found.searched,
        "allowed": found.allowed,
        "took_ms": round(1000 * (time.perf_counter() - start), 3),
        "notes": list(found.notes),
        "hits": hits,
    }
