"""HTTP/2 (RFC 9113): what its bytes mean. Engines behind one interface, as for HTTP/1."""
