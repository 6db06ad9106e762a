"""The messages of ASGI applications, checked against the specification.

Rules of this room:
  - Pure: messages in, decisions out. No loop, socket, clock or setting.
  - The ASGI specification decides; a message it does not allow raises in the application's own `send`.
"""
