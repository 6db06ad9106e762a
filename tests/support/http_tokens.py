"""What HTTP parsers treat specially: the methods, field names and values that llhttp and h11 know, and near misses."""

METHODS = (
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND "
    b"REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE "
    b"MKCALENDAR LINK UNLINK SOURCE PRI DESCRIBE ANNOUNCE SETUP PLAY PAUSE TEARDOWN GET_PARAMETER SET_PARAMETER "
    b"REDIRECT RECORD FLUSH QUERY BREW"
).split()
"""All that llhttp has a number for, those of RTSP and ICE included, and one that is unknown."""

CONNECTION_VALUES = [
    b"close",
    b"Close",
    b"keep-alive",
    b"Keep-Alive",
    b"upgrade",
    b"Upgrade, HTTP2-Settings",
    b"keep-alive, Upgrade",
    b"close, upgrade",
    b"keep-alive, close",
    b"close, keep-alive",
    b"closed",
    b"keep-alive-x",
    b"x, close",
    b", close",
    b"close,",
    b",",
    b"",
    b"te",
]

FRAMING_FIELDS = [
    b"Content-Length: 0",
    b"content-length: 3",
    b"Content-Length: 003",
    b"Transfer-Encoding: chunked",
    b"transfer-encoding: CHUNKED",
]
"""How long a body is; at most one of them belongs into a head."""

SPECIAL_FIELDS = [
    *(b"Connection: " + value for value in CONNECTION_VALUES),
    *(b"Proxy-Connection: " + value for value in CONNECTION_VALUES),
    b"proxy-connection:close",
    b"Upgrade: websocket",
    b"Upgrade: h2c",
    b"Upgrade: TLS/1.0, HTTP/1.1",
    b"Upgrade:",
    b"HTTP2-Settings: AAMAAABkAAQAAP__",
    b"Keep-Alive: timeout=5, max=1",
    b"Expect: 100-continue",
    b"Expect: 100-Continue",
    b"TE: trailers",
    b"Trailer: X",
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Sec-WebSocket-Version: 13",
    # What begins like a name that is treated specially, and is another.
    b"Connectio: close",
    b"Connections: close",
    b"Proxy-Connections: close",
    b"Content-Lengt: 9",
    b"Content-Length-X: 9",
    b"Transfer-Encodings: chunked",
    b"Upgrade-Insecure-Requests: 1",
]
