"""What the settings mean for connections."""

from asgi_master.http.limits import HttpLimits, WebSocketLimits
from asgi_master.settings.model import HttpSettings, Settings, WebSocketSettings
from asgi_master.worker.serving import serving


def test_default_limits_are_those_of_the_settings() -> None:
    made = serving(Settings()).keywords
    assert made["http"] == HttpLimits()
    assert made["websocket"] == WebSocketLimits()


def test_each_limit_is_a_setting() -> None:
    http = HttpSettings(
        limit_request_line=1,
        limit_header_count=2,
        limit_header_bytes=3,
        limit_body_size=4,
        header_timeout=5.0,
        body_timeout=6.0,
        body_min_rate=7,
        keep_alive_timeout=8.0,
        write_timeout=9.0,
        request_timeout=10.0,
    )
    websocket = WebSocketSettings(
        ws_max_size=11,
        ws_queue_size=12,
        ws_ping_interval=13.0,
        ws_ping_timeout=14.0,
        ws_per_message_deflate=False,
        ws_close_timeout=15.0,
    )
    made = serving(Settings(http=http, websocket=websocket)).keywords
    assert made["http"] == HttpLimits(1, 2, 3, 4, 5.0, 6.0, 7, 8.0, 9.0, 10.0)
    assert made["websocket"] == WebSocketLimits(11, 12, 13.0, 14.0, False, 9.0, 15.0)
