"""asgi-master: a process manager for ASGI applications."""

__version__ = "0.1.0"
