"""What the bytes mean.

Rules of this room:
  - Pure: bytes in, events out; events in, bytes out. No loop, socket, clock or setting.
  - RFC 9110, 9112 and 6455 decide. What a peer sends is hostile until it is checked here.
"""
