"""Log lines about certificates: renewed, refused, about to expire."""

import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime

log = logging.getLogger("asgi_master")

_WARN_BEFORE = 14 * 24 * 3600.0
_DAY = 24 * 3600.0


def renewed(ends: Iterable[tuple[str, float]]) -> None:
    """New certificates are in use: each file, with the expiry time in seconds since the epoch."""
    log.info("TLS: certificates renewed: %s", ", ".join(f"{name} until {_date(end)}" for name, end in ends))


def refused(errors: Iterable[str]) -> None:
    """The current certificate files cannot be used."""
    log.error("TLS: the changed certificates are refused, the old ones stay in use: %s", "; ".join(errors))


def lone(name: str, issuer: str) -> None:
    """The file contains a certificate without the certificate of its issuer."""
    log.info(
        "TLS: %s holds no certificate of its issuer, %s: clients without that one reject it; certfile must "
        "name the file with the chain (certbot's fullchain.pem)",
        name,
        issuer,
    )


def remind(ends: Iterable[tuple[str, float]]) -> None:
    """Warn about certificates that have expired or expire soon."""
    now = time.time()
    for name, end in ends:
        if end <= now:
            log.error("TLS: the certificate %s ended on %s: clients refuse it; renew it", name, _date(end))
        elif end - now < _WARN_BEFORE:
            days = int((end - now) / _DAY)
            log.warning("TLS: the certificate %s ends on %s, in %d day(s); renew it", name, _date(end), days)


def _date(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
