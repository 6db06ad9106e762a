"""Seeing and steering a running master: HTTP/1.1 over a Unix socket, and its client.

Rules of this room:
  - `api` and `reloads` are pure: requests to commands, notices to outcomes. `server` carries the bytes.
  - The server lives in the master's selector: nothing in it waits, every buffer and every wait has a bound, and
    whatever goes wrong ends one connection and nothing else.
  - It decides nothing about processes; `Steering` is all it knows of the master.
"""
