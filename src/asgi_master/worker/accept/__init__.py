"""From a listener to the protocol that a connection speaks: accepting, PROXY header, TLS handshake."""
