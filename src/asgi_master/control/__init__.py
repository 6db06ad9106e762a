"""The control interface of a running master, HTTP/1.1 over a Unix socket, and its client; health and metrics over HTTP.

Rules of this room:
  - `api`, `commands`, `pending_replies`, `reloads` and `stack_dumps` are pure: requests to commands, notices to
    outcomes, time as an argument. `server` is their socket side; `discovery` and `client` are the client's.
  - `health`, `metrics` and `live_status` are pure too; `admin` serves them to every client, and has commands
    only for the holder of a token (`access`).
  - `live_feed` makes the bytes of the live status once for all clients of both servers.
  - Both servers use `http_server`, which runs in the master's selector: nothing in it blocks, every buffer and every
    wait is bounded, and a failure ends one connection and nothing else.
  - It decides nothing about processes; `MasterControl` is all it knows of the master.
"""
