"""A service in processes: one socket, workers that share it, and an end that lets them finish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
from dataclasses import replace
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from whence.errors import BadOption
from whence.server.app import make_app
from whence.server.measures import FOLDER_VARIABLE
from whence.server.memory import share_arenas
from whence.server.terms import Terms, is_loopback

FINISH_S = 30
"""Seconds that requests and jobs have to come to an end."""
SILENT_S = 20.0
"""Seconds after which a connection that has asked nothing is closed."""
_BACKLOG = 2048


class PatientProtocol(H11Protocol):
    """HTTP that closes connections which never come to ask."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(SILENT_S, self._close_silent)

    def _close_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def serve(terms: Terms, *, on_ready: Any = None) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called with the address once the socket is
    bound. Raises `BadOption`."""
    _allow_connections()
    bound = _bind(terms.host, terms.port)
    terms = replace(terms, port=bound.getsockname()[1])
    show_log()
    # The end is asked for by a signal, and is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    if on_ready is not None:
        host = f"[{terms.host}]" if ":" in terms.host else terms.host
        on_ready(f"http://{host}:{terms.port}/")
    with contextlib.ExitStack() as stack:
        stack.callback(bound.close)
        if terms.workers > 1:
            os.environ[FOLDER_VARIABLE] = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="whence-counters-")
            )
        parent = os.getpid() if terms.workers > 1 else 0
        config = uvicorn.Config(
            partial(_application, terms, parent),
            factory=True,
            workers=terms.workers,
            http=PatientProtocol,
            ws="none",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=FINISH_S,
            # A worker that computes answers its parent late, and is not hung.
            timeout_worker_healthcheck=60,
        )
        if terms.workers > 1:
            Multiprocess(config, sockets=[bound]).run()
        else:
            uvicorn.Server(config).run(sockets=[bound])


def _application(terms: Terms, parent: int) -> Any:
    if parent:
        show_log()
    share_arenas()
    return make_app(terms, parent=parent)


def show_log() -> None:
    """Lines of the service's log to standard error: one a request, without its values."""
    logger = logging.getLogger("whence.server")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _bind(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BadOption(
            f"{host!r} is no address of this machine: {error.strerror or error}"
        ) from None
    # A name of the loop may have an address of either kind; the older one is what people type.
    family, kind, number, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    if is_loopback(host) and not is_loopback(str(address[0])):
        raise BadOption(f"{host!r} leads to {address[0]}, which can be reached from elsewhere")
    bound = socket.socket(family, kind, number)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise BadOption(
            f"cannot serve at {host}:{port}: {error.strerror or error}; choose another --port"
        ) from None
    # From now on who asks waits for the first worker, and is not turned away.
    bound.listen(_BACKLOG)
    bound.set_inheritable(True)
    return bound


def _allow_connections() -> None:
    """Let this process hold as many open connections as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
