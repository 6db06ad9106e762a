"""What a peer may ask of us: sizes in bytes, times in seconds, counts. 0 means unlimited."""

from asgi_master.records import record


@record
class HttpLimits:
    """Limits of one HTTP/1.1 connection."""

    request_line: int = 8192
    header_count: int = 100
    header_bytes: int = 65536
    """The whole header section, and likewise a trailer section."""
    body_size: int = 0
    """Of one request, after de-chunking."""
    header_timeout: float = 15.0
    """From the first byte of a request (or the accept of a connection) until its header section is complete."""
    body_timeout: float = 30.0
    """Between two pieces of a request body that the application waits for."""
    body_min_rate: int = 240
    """Bytes a second of such a body, averaged over `body_timeout`, or 30 s if that is 0."""
    keep_alive_timeout: float = 75.0
    """Between the end of a response and the first byte of the next request."""
    write_timeout: float = 30.0
    """How long a peer that does not read may hold back a response."""
    request_timeout: float = 0.0
    """From a request's header section until the application begins its response."""


@record
class Http2Limits:
    """Limits of one HTTP/2 connection, beside those of `HttpLimits` for each request."""

    max_concurrent_streams: int = 128
    """Streams at once (RFC 9113 §5.1.2), counted until their applications have returned."""
    stream_window: int = 256 * 1024
    """Bytes of one body that may wait for the application (RFC 9113 §5.2)."""
    connection_window: int = 1024 * 1024
    """The same of all bodies of the connection."""
    max_streams: int = 4096
    """Streams of all connections of a worker, beyond which each has but its share of them."""
    extended_connect: bool = True
    """Whether WebSockets are announced (RFC 8441 §3)."""


@record
class WebSocketLimits:
    """Limits of one WebSocket connection."""

    message_size: int = 16 * 1024 * 1024
    """One message, after decompression; above it the connection closes with 1009."""
    queue_size: int = 16
    """Messages that may wait for the application before reading pauses."""
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    per_message_deflate: bool = True
    write_timeout: float = 30.0
    close_timeout: float = 5.0
    """How long the peer may take to answer a close frame."""
