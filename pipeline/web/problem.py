"""Problem details (RFC 9457): what is wrong, in one form for every route. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(BaseModel):
    """A problem document, as OpenAPI shows it."""

    type: str = Field(examples=["urn:pstn:problem:rejected:currency_mismatch"])
    title: str = Field(examples=["the command was rejected"])
    status: int = Field(examples=[422])
    detail: str | None = Field(None, examples=["the account is in USD, the command says 'EUR'"])


class Problem(HTTPException):
    """Ends a request. `kind` names the problem for programs, `detail` says it to a person.

    An HTTPException, because the framework makes a 400 of anything else that happens while a body is read.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(status, detail or title, dict(headers or {}))
        self.body: dict[str, Any] = {"type": f"urn:pstn:problem:{kind}", "title": title, "status": status}
        if detail is not None:
            self.body["detail"] = detail
        self.body |= members

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, status_code=self.status_code, headers=self.headers, media_type=MEDIA_TYPE)


def invalid_request(detail: str) -> Problem:
    return Problem(422, "request_invalid", "the request is not of the form that is expected", detail)


def unknown_tenant(tenant_id: str) -> Problem:
    return Problem(404, "tenant_unknown", "there is no such account", f"no account was opened for {tenant_id!r}")


def plain_problem(status: int, detail: str | None = None) -> Problem:
    """Of the framework: no such route, method not allowed, and the like."""
    phrase = HTTPStatus(status).phrase
    return Problem(status, phrase.lower().replace(" ", "_"), phrase, None if detail == phrase else detail)


def validation_problem(errors: list[Any]) -> Problem:
    """The first fields that are wrong, a sentence each."""
    told = [f"{'.'.join(map(str, error['loc'][1:])) or error['loc'][0]}: {error['msg']}" for error in errors[:10]]
    return invalid_request("; ".join(told))
