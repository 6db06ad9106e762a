"""What every connection has, whatever protocol it speaks: a socket, its peer, a share of the loop, TLS."""
