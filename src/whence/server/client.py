"""A client of the service for Python; it needs nothing but the standard library.

>>> client = Client("http://127.0.0.1:8600")                            # doctest: +SKIP
>>> client.locate("where.jpg")[0].point                                 # doctest: +SKIP
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from whence.errors import BadOption, InputError
from whence.localize.records import position_of
from whence.types import GeoPoint, Position


class ServiceError(InputError):
    """The service refused or failed; carries its `status`, 0 where it did not answer."""

    def __init__(self, status: int, message: str, *, retry_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_s = retry_s
        """Seconds after which it may be asked again; 0 where it did not say."""


class _NoRedirects(HTTPRedirectHandler):
    """A token goes to the service alone."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Client:
    """A service at an address, with the token that it was started with where it needs one."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8600",
        *,
        token: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise BadOption(
                f"the address of a service begins with http:// or https://, not {url!r}"
            )
        self.url, self.token, self.timeout_s = url.rstrip("/"), token, timeout_s
        self._opener = build_opener(ProxyHandler({}), _NoRedirects())

    def locate(
        self,
        *photos: str | Path | bytes,
        database: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Position, ...]:
        """Where photos were taken, one answer each. `options` are those of `/v1/locate`: k, near,
        within, rerank, verify, ...

        Raises `ServiceError`.
        """
        found = self._ask(
            "POST",
            "/v1/locate",
            {"database": database, **(options or {})},
            form=[("photos", one) for one in photos],
        )
        return tuple(position_of(record) for record in found["answers"])

    def match(
        self,
        photo0: str | Path | bytes,
        photo1: str | Path | bytes,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The points that two photos share, as `whence match --json` prints them. `options`:
        scorer, matcher, picture."""
        fields = [(name, _text(value)) for name, value in (options or {}).items()]
        found: dict[str, Any] = self._ask(
            "POST", "/v1/match", form=[("photo0", photo0), ("photo1", photo1)], fields=fields
        )
        return found

    def databases(self) -> list[dict[str, Any]]:
        """The databases of the service."""
        found: list[dict[str, Any]] = self._ask("GET", "/v1/databases")
        return found

    def photos(
        self,
        *,
        database: str | None = None,
        near: GeoPoint | None = None,
        start: int = 0,
        num: int = 100,
    ) -> list[dict[str, Any]]:
        """Photos of a database, the nearest to a place first where one is given."""
        place = None if near is None else f"{near.lat!r},{near.lon!r}"
        found: list[dict[str, Any]] = self._ask(
            "GET", "/v1/photos", {"database": database, "near": place, "start": start, "num": num}
        )["photos"]
        return found

    def thumbnail(self, id: str, *, database: str | None = None, side: int = 240) -> bytes:
        """A photo of a database as a small JPEG."""
        found: bytes = self._ask(
            "GET",
            f"/v1/photos/{quote(id, safe='')}/thumbnail",
            {"database": database, "side": side},
        )
        return found

    def add(
        self,
        *photos: str | Path | bytes,
        database: str | None = None,
        point: GeoPoint | None = None,
    ) -> dict[str, Any]:
        """The answer to photos for a database, with the job that describes them. Needs the
        token."""
        fields = [] if point is None else [("lat", repr(point.lat)), ("lon", repr(point.lon))]
        found: dict[str, Any] = self._ask(
            "POST",
            "/v1/photos",
            {"database": database},
            form=[("photos", one) for one in photos],
            fields=fields,
        )
        return found

    def remove(self, id: str, *, database: str | None = None) -> str:
        """The id of the job that removes a photo from a database. Needs the token."""
        return str(
            self._ask("DELETE", f"/v1/photos/{quote(id, safe='')}", {"database": database})["job"]
        )

    def begin(
        self,
        kind: str,
        folder: str,
        *,
        database: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A job, begun, over a folder that was named at the service's start: "folder" places its
        photos, "tag" reviews them."""
        body = {
            "folder": folder,
            **(options or {}),
            **({} if database is None else {"database": database}),
        }
        found: dict[str, Any] = self._ask("POST", f"/v1/jobs/{quote(kind, safe='')}", body=body)
        return found

    def job(self, id: str) -> dict[str, Any]:
        """A job, and how far it is."""
        found: dict[str, Any] = self._ask("GET", f"/v1/jobs/{quote(id, safe='')}")
        return found

    def results(self, id: str, *, start: int = 0, num: int = 1000) -> list[dict[str, Any]]:
        """Results of a job so far."""
        found: list[dict[str, Any]] = self._ask(
            "GET", f"/v1/jobs/{quote(id, safe='')}/results", {"start": start, "num": num}
        )["results"]
        return found

    def wait(self, id: str, *, timeout_s: float = 600.0) -> dict[str, Any]:
        """The job when it has ended. Raises `ServiceError` where that takes too long."""
        until = time.monotonic() + timeout_s
        while (job := self.job(id))["state"] in ("queued", "running"):
            if time.monotonic() > until:
                raise ServiceError(0, f"job {id} is not done after {timeout_s:.0f} s; it goes on")
            time.sleep(0.2)
        return job

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        body: Any = None,
        form: Sequence[tuple[str, str | Path | bytes]] = (),
        fields: Sequence[tuple[str, str]] = (),
    ) -> Any:
        asked = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        headers = {"Accept": "application/json"} | (
            {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        )
        data = None
        if form or fields:
            data, headers["Content-Type"] = _multipart(form, fields)
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = Request(
            self.url + path + (f"?{urlencode(asked)}" if asked else ""),
            data,
            headers,
            method=method,
        )
        try:
            with self._opener.open(request, timeout=self.timeout_s) as answer:
                content = answer.read()
                is_json = "json" in answer.headers.get_content_type()
                return json.loads(content) if is_json else content
        except HTTPError as error:
            raise ServiceError(
                error.code, _sentence(error), retry_s=float(error.headers.get("Retry-After") or 0)
            ) from None
        except (URLError, OSError, ValueError) as error:
            raise ServiceError(
                0, f"{self.url} did not answer: {getattr(error, 'reason', error)}"
            ) from None


def _sentence(error: HTTPError) -> str:
    try:
        return f"{error.code}: {json.loads(error.read())['error']}"
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.code}: {error.reason}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _multipart(
    form: Sequence[tuple[str, str | Path | bytes]], fields: Sequence[tuple[str, str]]
) -> tuple[bytes, str]:
    """A form of texts and files, and the header that names its boundary."""
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    for name, value in fields:
        pieces += [
            (
                f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            ).encode()
        ]
    for name, photo in form:
        shown = (
            "photo"
            if isinstance(photo, bytes)
            else quote(Path(photo).name, safe=" ()[]!$&'+,-.@_~=")
        )
        try:
            data = photo if isinstance(photo, bytes) else Path(photo).read_bytes()
        except OSError as error:
            raise ServiceError(
                0, f"cannot read {str(photo)!r}: {error.strerror or error}"
            ) from None
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{shown}"\r\n'
        )
        pieces += [head.encode(), b"Content-Type: application/octet-stream\r\n\r\n", data, b"\r\n"]
    return b"".join(
        [*pieces, f"--{boundary}--\r\n".encode()]
    ), f"multipart/form-data; boundary={boundary}"
