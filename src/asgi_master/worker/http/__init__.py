"""HTTP between a transport and the application: the task of one request, and the connections that carry requests."""
