"""What ends a stream or a connection of HTTP/2, and the code that says so (RFC 9113 §5.4, §7)."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """The codes of RST_STREAM and GOAWAY (RFC 9113 §7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class H2Error(Exception):
    """The peer broke a rule. `code` is what it is told, `reason` a sentence for the log and for GOAWAY's debug data."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code = code
        self.reason = reason


class StreamError(H2Error):
    """It ends one stream (RFC 9113 §5.4.2). A malformed request is one (§8.1.1)."""


class ConnectionError(H2Error):  # noqa: A001 -- the term of RFC 9113 §5.4.1
    """It ends the connection (RFC 9113 §5.4.1)."""
