"""The asyncio edge: accept, serve, beat, drain.

Rules of this room:
  - It carries bytes and messages between sockets, the protocol cores and the application; it decides nothing
    about protocols (`http`), application messages (`asgi`) or processes (the master).
  - Hot-path code updates plain attributes of `Stats`; a loop timer copies them to the scoreboard.
"""
