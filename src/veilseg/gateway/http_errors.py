"""What each error is over HTTP, in the form in which MONAI Label's clients show it."""

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from veilseg.access.errors import NotAuthenticated, NotPermitted
from veilseg.errors import (
    IntegrityError,
    InvalidInput,
    InvalidVault,
    OutputNotWritable,
    RepeatRefused,
    ServerError,
    VeilsegError,
)
from veilseg.gateway.errors import Cancelled, NotOffered, StorageFull, UnknownObject
from veilseg.serving.errors import BodyTooLarge, Busy, DeadlinePassed, Draining
from veilseg.serving.http_errors import CLIENT_GONE, log_failure

logger = logging.getLogger(__name__)

# The most particular class decides.
STATUSES: Final[dict[type[VeilsegError], int]] = {
    InvalidInput: 400,
    NotAuthenticated: 401,
    NotPermitted: 403,
    UnknownObject: 404,
    RepeatRefused: 409,
    BodyTooLarge: 413,
    Busy: 429,
    Cancelled: CLIENT_GONE,
    IntegrityError: 500,
    InvalidVault: 500,
    NotOffered: 501,
    ServerError: 502,
    Draining: 503,
    DeadlinePassed: 504,
    OutputNotWritable: 507,
    StorageFull: 507,
}
INTERNAL: Final = 500


def refusal(message: str, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as these clients show it."""
    return JSONResponse({"detail": message}, status, headers)


class Explainer:
    """Says of every error what it is over HTTP, in one line, and logs what is this side's.

    Parameters
    ----------
    folders : sequence of Path
        Left out of messages: where things lie on this machine is nobody's business.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        inside = "|".join(re.escape(str(folder)) for folder in folders)
        # A session's folder, and a page's within, have names of random digits.
        self._paths = re.compile(rf"(?:{inside})[/\\](?:[0-9a-f-]{{32,36}}[/\\])*")

    def __call__(self, error: Exception) -> tuple[int, str]:
        """Status and line."""
        status = next(
            (STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), INTERNAL
        )
        if isinstance(error, ServerError):
            # Of the other side and of this site's set-up; neither knows a patient.
            logger.warning("server: %s", error)
        elif status == INTERNAL:
            log_failure(error)
            if isinstance(error, IntegrityError | InvalidVault):
                logger.error("bundle or vault: %s", error)
            return status, "this gateway cannot segment at the moment; its log says why"
        return status, self._paths.sub("", str(error))


def handle_errors(app: FastAPI, explain: Explainer) -> None:
    """Answer every error of an app in one line."""

    @app.exception_handler(VeilsegError)
    async def on_purpose(_: Request, error: VeilsegError) -> JSONResponse:
        status, line = explain(error)
        headers = {}
        if isinstance(error, NotAuthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        elif isinstance(error, Busy):
            headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        return refusal(line, status, headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        # What stood there is not told: it may name a patient.
        where = ", ".join(sorted({str(one["loc"][-1]) for one in error.errors()}))
        return refusal(f"{where}: missing or malformed", 400)

    @app.exception_handler(TimeoutError)
    async def too_slow(_: Request, __: TimeoutError) -> JSONResponse:
        return refusal("the body did not arrive in time", 408)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return refusal("the connection was closed", CLIENT_GONE)
