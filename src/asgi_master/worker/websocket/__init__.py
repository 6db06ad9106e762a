"""WebSockets between a transport and the application."""
