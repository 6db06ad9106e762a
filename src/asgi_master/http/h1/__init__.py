"""HTTP/1.1 (RFC 9112): requests out of bytes, responses into bytes."""
