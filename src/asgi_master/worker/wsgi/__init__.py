"""Serves WSGI applications (PEP 3333): threads of a pool call them, the loop does all that is HTTP.

Rules of this wing:
  - A request has a half in the loop and a half in a thread. What both touch is an attribute that one of them writes, or
    a `deque`, of which `append` and `popleft` are atomic.
  - The loop never waits for a thread. A thread waits for the loop where the application must: for a body, and for room.
"""
