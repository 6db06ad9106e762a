"""The static table of HPACK (RFC 7541 Appendix A)."""

from typing import Final

from asgi_master.http.message import Field

_TABLE: Final = """\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""


def _fields() -> list[Field]:
    lines = (line.partition(b" ") for line in _TABLE.encode().splitlines())
    return [(name, value) for name, _, value in lines]


STATIC_FIELDS: Final = tuple(_fields())
"""Index 1 is the first."""

STATIC_INDEXES: Final = {field: index for index, field in enumerate(STATIC_FIELDS, start=1)}

NAME_INDEXES: Final = {name: index for index, (name, _) in reversed(list(enumerate(STATIC_FIELDS, start=1)))}
"""The first index of each name."""
