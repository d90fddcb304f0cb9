"""Whatever goes wrong, the client gets a status and one sentence; the log gets the rest."""

import re
import reprlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rejepa_jax.serve.headers import HEADERS

SEE = "see /openapi.json"
SAID_BY_OTHERS = {  # what the libraries say, in our form
    "Not Found": f"got a path that is not here, expected one of this server; {SEE}",
    "Method Not Allowed": f"got another method than expected; {SEE}",
    "There was an error parsing the body": f"got a body that cannot be read, expected JSON; {SEE}",
}


def refusal(status: int, error: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Makes the answer to a request that is not served."""
    return JSONResponse({"error": error}, status, headers)


def without_paths(text: str) -> str:
    """Leaves of every absolute path only its last name: where a run lies is nobody's affair."""
    return re.sub(r"(?<![\w./])/(?:[^\s/:'\"]+/)*([^\s/:'\"]+)", r"\1", text)


def add_handlers(app: FastAPI) -> None:
    """Makes every error of `app` an answer of the one form."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    text = SAID_BY_OTHERS.get(error.detail, error.detail)
    return refusal(error.status_code, text, error.headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if problems and problems[0]["type"] == "json_invalid":
        why = problems[0]["ctx"]["error"]
        return refusal(400, f"got a body that is not JSON ({why}), expected an object; {SEE}")
    return refusal(422, explain(problems))


def explain(problems: Sequence[Mapping[str, Any]]) -> str:
    """Says the first of pydantic's complaints in the form of all our errors."""
    first = problems[0]
    where = ".".join(str(part)[:80] for part in first["loc"]) or "body"
    given = reprlib.repr(first.get("input"))  # no more than a glimpse
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: got {given}, expected: {first['msg']}{more}; {SEE}"


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Answers for a fault of ours: the traceback stays in the log, under a number."""
    number = uuid.uuid4().hex[:12]
    logging.error("error %s at %s", number, request.url.path, exc_info=error)
    text = f"got an error inside the server, number {number}; look it up in the server's log"
    # This handler runs outside the middleware that adds them.
    return refusal(500, text, {name.decode(): value.decode() for name, value in HEADERS})
