"""Seeing and steering a running master: HTTP/1.1 over a Unix socket, and its client; health and metrics for all.

Rules of this room:
  - `api`, `commands`, `pending_replies`, `reloads` and `stack_dumps` are pure: requests to commands, notices to
    outcomes, time as an argument. `server` carries the bytes; `discovery` and `client` are the other side's.
  - `health` and `metrics` are pure too; `admin` serves them to whoever asks, and knows no command.
  - Both servers stand on `http_server`, which lives in the master's selector: nothing in it waits, every buffer and
    every wait has a bound, and whatever goes wrong ends one connection and nothing else.
  - It decides nothing about processes; `MasterControl` is all it knows of the master.
"""
