"""What each error is over HTTP."""

import logging
import math
import traceback
from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from veilseg.access.errors import AuditLogFailed, NotAuthenticated, NotPermitted
from veilseg.errors import VeilsegError
from veilseg.serving.errors import (
    BodyTooLarge,
    BodyUnreadable,
    Busy,
    DeadlinePassed,
    Draining,
    InvalidRequest,
    ModelNotReady,
    NotLoaded,
    TooManyRequests,
    TooManyWaiting,
    UnknownEncoding,
    UnknownModel,
)
from veilseg.wire import WireError, documents

logger = logging.getLogger(__name__)

# The statuses of everything raised on purpose; any other error is our fault and a 500.
STATUSES: Final[dict[type[VeilsegError], int]] = {
    WireError: 400,
    InvalidRequest: 400,
    BodyUnreadable: 400,
    NotLoaded: 400,
    NotAuthenticated: 401,
    NotPermitted: 403,
    UnknownModel: 404,
    BodyTooLarge: 413,
    UnknownEncoding: 415,
    TooManyWaiting: 429,
    TooManyRequests: 429,
    AuditLogFailed: 503,
    Draining: 503,
    ModelNotReady: 503,
    DeadlinePassed: 504,
}
# What web servers log for a client that left; nobody receives it.
CLIENT_GONE: Final = 499
RETRY_AFTER_S: Final = 1


def refusal(message: str, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as the protocol wraps it."""
    return JSONResponse(documents.error(message), status, headers)


def handle_errors(app: FastAPI) -> None:
    """Answer every error of an app in the protocol's words, and quote no data."""

    @app.exception_handler(VeilsegError)
    async def on_purpose(_: Request, error: VeilsegError) -> JSONResponse:
        status = STATUSES.get(type(error), 500)
        if status == 500:
            log_failure(error)
            return refusal("the model failed", status)
        if isinstance(error, AuditLogFailed):
            # Which file it is and why is for the operator.
            logger.error("audit log: %s", error)
            return refusal("requests cannot be written down at the moment", status, _later(None))
        return refusal(str(error), status, _headers(error))

    @app.exception_handler(TimeoutError)
    async def too_slow(_: Request, __: TimeoutError) -> JSONResponse:
        return refusal("the body did not arrive in time", 408)

    @app.exception_handler(HTTPException)
    async def by_framework(_: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        return refusal(str(error.detail), error.status_code, headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return refusal("the connection was closed", CLIENT_GONE)


class LastResort:
    """Answers what nobody foresaw without quoting it, to the client or to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; answers are sent whole and last, so that failures come before them."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - the boundary of the process
            log_failure(error)
            await refusal("internal error", 500)(scope, receive, send)


def log_failure(error: Exception) -> None:
    """Log where it happened and of what kind. The message is left out: it may quote data."""
    where = "".join(traceback.format_tb(error.__traceback__)[-3:])
    logger.error("request failed: %s\n%s", type(error).__name__, where)


def _headers(error: VeilsegError) -> dict[str, str] | None:
    if isinstance(error, NotAuthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, Busy):
        return _later(error.retry_after_s)
    return _later(None) if isinstance(error, Draining) else None


def _later(seconds: float | None) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(seconds or RETRY_AFTER_S))}
