"""The terms a service is started on: its databases and folders by name, who may ask, who may write,
and how much at once."""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from whence.errors import BadOption, UnreadableTable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SIZE = re.compile(r"(\d{1,9})([kMG]?)")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
MIN_TOKEN_CHARACTERS = 16
_TILES = re.compile(r"https?://[A-Za-z0-9.-]+(:\d+)?/[A-Za-z0-9._~/{}@-]*\{z\}[A-Za-z0-9._~/{}@-]*")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once."""

    max_upload_bytes: int = 25_000_000
    """Bytes of one request with photos."""
    max_video_bytes: int = 1_000_000_000
    max_pixels: int = 100_000_000
    """Pixels of one uploaded photo, as it declares them."""
    max_photos: int = 64
    """Photos of one request."""
    queue: int = 32
    """Requests that wait for a worker's one place to compute; who comes after them is told to come
    again."""
    request_seconds: float = 60.0
    """Seconds from a request's first byte to its answer's; uploads of videos have ten times as
    long."""
    max_jobs: int = 100
    """Jobs that wait or run."""
    max_kept_jobs: int = 1000
    """Jobs that are remembered; the oldest that are done go first."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a service is started with. Names are what requests may say; paths are known here
    alone."""

    databases: Mapping[str, str]
    """Folder of each database."""
    state: str
    """Folder of the service's own: jobs, uploaded photos and videos."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Folders of photos that jobs may look at, by name."""
    host: str = "127.0.0.1"
    port: int = 8600
    names: tuple[str, ...] = ()
    """Other names that requests may call this host by."""
    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Any of them lets write, and where the service is not for this machine alone, read."""
    page_token: str = field(default="", repr=False)
    """The page's own token, made at every start; none where the page has to be told one."""
    is_read_only: bool = False
    logs_places: bool = False
    """Whether the log says where photos were found."""
    tiles: str = ""
    """Address of map tiles, with {z}, {x} and {y}, that the page may ask; none asks nobody."""
    workers: int = 1
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in (*self.databases, *self.folders):
            if not _NAME.fullmatch(name):
                raise BadOption(
                    "names in requests are letters, digits, '.', '_' and '-', at most 64; not "
                    f"{name!r}"
                )
        if not self.databases:
            raise BadOption("a service needs a database: --db city.whence")
        if not self.is_local and not self.tokens:
            raise BadOption(
                f"{self.host} can be reached from elsewhere: give --token-file FILE, or serve on "
                "127.0.0.1"
            )
        if self.tiles and not _TILES.fullmatch(self.tiles):
            example = "https://tiles.example/{z}/{x}/{y}.png"
            raise BadOption(f"--tiles is an address as {example}, not {self.tiles!r}")
        if self.workers < 1 or self.limits.queue < 1 or not 0 <= self.port < 65536:
            raise BadOption(
                "a service has at least one worker, a queue of at least one, and a port from 0 to "
                "65535"
            )

    @property
    def is_local(self) -> bool:
        """Whether the service listens to this machine alone."""
        return is_loopback(self.host)

    @property
    def hosts(self) -> frozenset[str]:
        """Names that the header Host may say, in lower case, with and without the port."""
        names = {self.host, *self.names}
        if self.is_local:
            names |= {"127.0.0.1", "localhost", "::1"}
        shown = {
            f"[{name}]" if ":" in name else name.lower()
            for name in names
            if name not in ("0.0.0.0", "::")
        }
        return frozenset(
            {f"{name}:{self.port}" for name in shown}
            | (shown if self.port in (80, 443) or self.names else set())
        )

    def hide(self, text: str) -> str:
        """The text with names in the place of the folders that only this machine knows."""
        known = {
            **{path: name for name, path in (*self.databases.items(), *self.folders.items())},
            self.state: "the service",
        }
        for path in sorted(known, key=len, reverse=True):
            text = text.replace(path, known[path])
        return text

    @property
    def every_token(self) -> tuple[str, ...]:
        """All that are taken, the page's own among them."""
        return (*self.tokens, *((self.page_token,) if self.page_token else ()))


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own loop."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(32)


def read_tokens(path: str | Path) -> tuple[str, ...]:
    """The tokens of a file, one a line; lines that begin with # say nothing. Raises
    `UnreadableTable`, without showing any."""
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="ascii").splitlines()]
    except OSError as error:
        raise UnreadableTable(path, error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise UnreadableTable(path, "tokens are ASCII, one a line") from None
    tokens = tuple(line for line in lines if line and not line.startswith("#"))
    for number, token in enumerate(tokens, start=1):
        if len(token) < MIN_TOKEN_CHARACTERS or not token.isprintable() or " " in token:
            raise UnreadableTable(
                path,
                (
                    f"token {number} is short or holds spaces; give at least "
                    f"{MIN_TOKEN_CHARACTERS} characters"
                ),
            )
    if not tokens:
        raise UnreadableTable(path, "it holds no token; write one a line")
    return tokens


def parse_size(text: str) -> int:
    """Bytes of a size as people write it: 25M, 800k, 1G. Raises `BadOption`."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise BadOption(f"a size is a number with k, M or G, for example 25M; not {text!r}")
    return int(found[1]) * _UNITS[found[2]]


def named_databases(paths: Iterable[str]) -> dict[str, str]:
    """Databases by the name of their folder without its ending; NAME=PATH names one. Raises
    `BadOption` for a name twice."""
    found: dict[str, str] = {}
    for text in paths:
        name, path = _named(text) or (Path(text).name.removesuffix(".whence"), text)
        if name in found:
            raise BadOption(
                f"two databases are called {name!r}; name one of them: --db other={path}"
            )
        found[name] = str(Path(path).absolute())
    return found


def named_folders(texts: Iterable[str]) -> dict[str, str]:
    """Folders of photos by name, from NAME=PATH. Raises `BadOption` for what is no folder, or has
    no name."""
    found: dict[str, str] = {}
    for text in texts:
        named = _named(text)
        if named is None or named[0] in found or not Path(named[1]).is_dir():
            raise BadOption(f"--folder takes NAME=PATH of a folder, each name once; not {text!r}")
        found[named[0]] = str(Path(named[1]).resolve())
    return found


def _named(text: str) -> tuple[str, str] | None:
    name, equals, path = text.partition("=")
    return (name, path) if equals and _NAME.fullmatch(name) and path else None
