"""Session affinity: which worker has the session that a request belongs to."""
