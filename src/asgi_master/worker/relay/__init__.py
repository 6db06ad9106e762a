"""Requests and WebSockets that one worker carries to the worker that has their session, as ASGI messages."""
