"""Who may ask, and how: hosts, origins, tokens, sizes and time of requests, before anything else
sees them.

One layer around the whole service, so that no route can forget it. A body is counted while it
arrives. What is refused is refused with a sentence in JSON; a log line says which route was asked,
never with which values, tokens or places.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect

from whence.server.measures import Measures
from whence.server.terms import Terms

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger("whence.server")
OPEN_PATHS = ("/healthz", "/readyz", "/", "/v1/openapi.json")
"""What says nothing about photos and places: no token is asked for it."""
READING_POSTS = ("/v1/locate", "/v1/match")
WRITING = ("POST", "PUT", "PATCH", "DELETE")
VIDEO_PATH = "/v1/jobs/video"
STATIC = "/static/"
_MOST_HEADERS_BYTES = 32_000


class Guard:
    """The layer: an ASGI application around another."""

    def __init__(self, app: Any, terms: Terms, measures: Measures, *, page_policy: str) -> None:
        self.app, self.terms, self.measures = app, terms, measures
        self.headers = _safe_headers(page_policy)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        answer = _Answer(send, self.headers)
        started = time.perf_counter()
        scope["whence_places"] = []
        refused = self._refusal(scope)
        body = _Body(receive, answer, most=self._most_bytes(scope), seconds=self._seconds(scope))
        try:
            if refused is not None:
                await answer.refuse(*refused)
            else:
                await asyncio.wait_for(
                    self._run(scope, body, answer),
                    None if _is_stream(scope) else self._seconds(scope),
                )
        except TimeoutError:
            await answer.refuse(
                504, "this took too long and was given up; ask for less at once", retry_s=5
            )
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("%s %s failed", scope["method"], _route(scope))
            await answer.refuse(500, "this failed, and the service's log says why")
        finally:
            spent = time.perf_counter() - started
            self.measures.note(scope["method"], _route(scope), answer.status, spent)
            places = (
                f" at {'; '.join(scope['whence_places'])}"
                if self.terms.logs_places and scope["whence_places"]
                else ""
            )
            log.info(
                "%s %s %d %d bytes in %.0f ms%s",
                scope["method"],
                _route(scope),
                answer.status,
                body.num_bytes,
                1000 * spent,
                places,
            )

    async def _run(self, scope: MutableMapping[str, Any], body: _Body, answer: _Answer) -> None:
        await self.app(scope, body.receive, answer.send)

    def _refusal(self, scope: Mapping[str, Any]) -> tuple[int, str] | None:
        """Status and sentence where a request is refused before it is read."""
        headers = _headers(scope)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _MOST_HEADERS_BYTES:
            return 431, "the headers are too long"
        host = headers.get("host", "").lower()
        if host not in self.terms.hosts:
            return (
                421,
                (
                    "this service does not go by that host's name; start it with --name NAME if "
                    "it should"
                ),
            )
        is_write = scope["method"] in WRITING
        if is_write and not _is_same_origin(headers, host):
            return 403, "requests of other pages are not taken"
        if is_write and scope["path"] not in READING_POSTS:
            if self.terms.is_read_only:
                return 403, "this service is for reading only"
            if not self._has_token(headers):
                return 401, "writing needs a token: send the header  Authorization: Bearer TOKEN"
        elif (
            not self.terms.is_local and not _is_open(scope["path"]) and not self._has_token(headers)
        ):
            return 401, "this service needs a token: send the header  Authorization: Bearer TOKEN"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._most_bytes(scope):
            return 413, f"a request has at most {self._most_bytes(scope):,} bytes"
        return None

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        # Each is compared, in constant time: how long this takes tells nothing.
        same = [
            hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
            for token in self.terms.every_token
        ]
        return kind.lower() == "bearer" and any(same)

    def _most_bytes(self, scope: Mapping[str, Any]) -> int:
        limits = self.terms.limits
        return limits.max_video_bytes if scope["path"] == VIDEO_PATH else limits.max_upload_bytes

    def _seconds(self, scope: Mapping[str, Any]) -> float:
        return self.terms.limits.request_seconds * (10 if scope["path"] == VIDEO_PATH else 1)


class _Body:
    """A request's body, counted while it arrives; it ends where it is too long or too slow."""

    def __init__(self, receive: Receive, answer: _Answer, *, most: int, seconds: float) -> None:
        self._receive, self._answer, self._most = receive, answer, most
        self._until = time.monotonic() + seconds / 2
        self.num_bytes = 0
        self._is_whole = False

    async def receive(self) -> Message:
        if self._is_whole or self._answer.is_begun:
            return await self._receive()
        try:
            message = await asyncio.wait_for(
                self._receive(), max(self._until - time.monotonic(), 0.01)
            )
        except TimeoutError:
            await self._answer.refuse(408, "the request arrived too slowly")
            return {"type": "http.disconnect"}
        self.num_bytes += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self.num_bytes > self._most:
            await self._answer.refuse(413, f"a request has at most {self._most:,} bytes")
            return {"type": "http.disconnect"}
        return message


class _Answer:
    """What is answered: with the headers that every answer has, and once only."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send, self._headers = send, headers
        self.status = 499
        self.is_begun = False
        self._is_refused = False

    async def send(self, message: Message) -> None:
        if self._is_refused:
            return
        if message["type"] == "http.response.start":
            self.is_begun, self.status = True, message["status"]
            given = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(pair for pair in self._headers if pair[0] not in given),
            ]
        await self._send(message)

    async def refuse(self, status: int, sentence: str, *, retry_s: int = 0) -> None:
        """Answer with a sentence, unless an answer has begun already; the connection is closed
        after it."""
        if self.is_begun:
            return
        body = json.dumps({"error": sentence}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
        headers += [(b"retry-after", str(retry_s).encode())] if retry_s else []
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
        self._is_refused = True


def _safe_headers(page_policy: str) -> list[tuple[bytes, bytes]]:
    headers = {
        "content-security-policy": page_policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "geolocation=(), microphone=(), camera=(self)",
        "cache-control": "no-store",
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """Headers by name; of one that comes twice none that could be taken for another's is left."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        found[key] = (
            value.decode("latin-1")
            if key not in found
            else f"{found[key]}, {value.decode('latin-1')}"
        )
    return found


def _is_same_origin(headers: Mapping[str, str], host: str) -> bool:
    """Whether a browser's request comes from this service's own page; other programs send no
    origin."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin", "")
    return not origin or origin.lower() in (f"http://{host}", f"https://{host}")


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(STATIC)


def _is_stream(scope: Mapping[str, Any]) -> bool:
    return scope["path"].startswith("/v1/jobs/") and scope["path"].endswith("/events")


def _route(scope: Mapping[str, Any]) -> str:
    """The route as it is declared: without the values in it, which may be names of photos."""
    route = scope.get("route")
    return getattr(route, "path", None) or (
        "/static" if scope["path"].startswith(STATIC) else "(none)"
    )
