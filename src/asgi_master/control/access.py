"""Who may act at the admin address: the holder of a token, from a page of the same origin, not too often."""

import hmac
import os
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from asgi_master.control.api import Refusal
from asgi_master.control.connection import Request

SHORTEST_TOKEN = 16
"""Characters: a shorter one could be guessed, however slowly."""
_LARGEST_FILE = 4096
_PERIOD = 60.0
_MOST_FAILURES = 10
"""Requests without the token that are answered in a period: then all are refused, until it has passed."""
_MOST_ACTIONS = 60
"""Requests with it."""


class TokenError(Exception):
    """The token cannot be used; the reason in one line."""


def read_token(path: Path) -> bytes:
    """The token in the file, without white space around it. Does not block. Raises `TokenError`."""
    try:
        # It could be a FIFO, at which the open would wait.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise TokenError(f"{path} is not a file")
            if found.st_mode & stat.S_IROTH:
                raise TokenError(f"every user can read {path}: take that right away (chmod o-r)")
            token = os.read(fd, _LARGEST_FILE).strip()
        finally:
            os.close(fd)
    except OSError as error:
        raise TokenError(f"{path} cannot be read: {error.strerror}") from None
    if len(token) < SHORTEST_TOKEN:
        raise TokenError(f"the token in {path} is shorter than {SHORTEST_TOKEN} characters")
    return token


class Access:
    """Checks requests for actions."""

    def __init__(self, token: Callable[[], bytes], clock: Callable[[], float]) -> None:
        """`token` reads the token anew, so that it can be changed; it raises `TokenError`."""
        self._token = token
        self._clock = clock
        self._failed: deque[float] = deque(maxlen=_MOST_FAILURES)
        self._accepted: deque[float] = deque(maxlen=_MOST_ACTIONS)

    def check(self, request: Request) -> None:
        """Raises `Refusal` for a request that may not act."""
        headers = request.headers
        if not _is_same_origin(headers.get("origin"), headers.get("host", "")) or headers.get(
            "sec-fetch-site", "none"
        ) not in {"same-origin", "none"}:
            raise Refusal(403, "a page of another origin may not act here")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # Forms of other pages can send other types, and no JSON.
            raise Refusal(415, "the content type must be application/json")
        now = self._clock()
        self._limit(self._failed, now)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        try:
            token = self._token()
        except TokenError as error:
            raise Refusal(503, str(error)) from None
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token):
            self._failed.append(now)
            raise Refusal(401, "wrong token")
        self._limit(self._accepted, now)
        self._accepted.append(now)

    @staticmethod
    def _limit(times: deque[float], now: float) -> None:
        if len(times) == times.maxlen and now - times[0] < _PERIOD:
            raise Refusal(429, f"too many requests: try again in {_PERIOD:.0f} s")


def _is_same_origin(origin: str | None, host: str) -> bool:
    """Whether a request came from a page of this address, or from no page."""
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False
