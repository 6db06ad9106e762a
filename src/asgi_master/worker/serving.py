"""Derives the parameters of connections from the settings; done once, in the zygote, so that workers share them."""

from collections.abc import Callable
from functools import partial

from asgi_master.http.engines import engines_of
from asgi_master.http.forwarded import Forwarded
from asgi_master.http.limits import Http2Limits, HttpLimits, WebSocketLimits
from asgi_master.http.server_fields import ServerFields
from asgi_master.settings.fields import same_named
from asgi_master.settings.headers import parse_header
from asgi_master.settings.model import ProxySettings, Settings
from asgi_master.tls.contexts import HTTP_1, HTTP_2
from asgi_master.worker.transport.context import WorkerContext
from asgi_master.worker.transport.endpoints import trust_of
from asgi_master.worker.transport.tls import TlsServer

NewContext = Callable[..., WorkerContext]
"""Creates the context of a worker from what only the worker has: `app`, `loop`, `state` and `access_log`."""


def serving(settings: Settings) -> NewContext:
    """A factory of contexts for workers that serve with these settings."""
    http, websocket, proxy = settings.http, settings.websocket, settings.proxy
    return partial(
        WorkerContext,
        http=HttpLimits(
            **same_named(HttpLimits, http),
            request_line=http.limit_request_line,
            header_count=http.limit_header_count,
            header_bytes=http.limit_header_bytes,
            body_size=http.limit_body_size,
        ),
        http2=_http2(settings),
        websocket=WebSocketLimits(
            message_size=websocket.ws_max_size,
            queue_size=websocket.ws_queue_size,
            ping_interval=websocket.ws_ping_interval,
            ping_timeout=websocket.ws_ping_timeout,
            per_message_deflate=websocket.ws_per_message_deflate,
            write_timeout=http.write_timeout,
            close_timeout=websocket.ws_close_timeout,
        ),
        engines=engines_of(http.parser, http.http2_engine),
        root_path=http.root_path,
        forwarded=_forwarded(proxy),
        proxies=trust_of(proxy.proxy_protocol_allow_ips) if proxy.proxy_protocol else None,
        server_fields=ServerFields(
            server_header=http.server_header,
            date_header=http.date_header,
            extra_headers=tuple(parse_header(line) for line in http.header),
        ),
        max_active_requests=http.max_active_requests,
        counts_durations=bool(settings.observation.admin_bind),
    )


def _http2(settings: Settings) -> Http2Limits | None:
    http = settings.http
    if not http.http2:
        return None
    return Http2Limits(
        max_concurrent_streams=http.http2_max_concurrent_streams, max_streams=http.http2_max_streams
    )


def tls_server(settings: Settings, certificates_fd: int) -> TlsServer:
    """What connections speak TLS with; see `TlsServer`."""
    return TlsServer(settings.tls, certificates_fd, HTTP_2 if settings.http.http2 else HTTP_1)


def _forwarded(proxy: ProxySettings) -> Forwarded | None:
    trust = trust_of(proxy.forwarded_allow_ips)
    if not trust:
        return None
    return Forwarded(trust, rfc7239=proxy.forwarded_headers == "forwarded", prefix=proxy.forwarded_prefix)
