"""`asgi-masterctl top`: the fleet, live, in a terminal.

Rules of this package:
  - `view` and `keys` are pure: documents to lines, keys to what they ask for. `terminal` is the terminal, `fetcher` the
    connection to the master.
  - Text that comes from requests or from the application is shown escaped and on one line: it could hold sequences
    that steer a terminal.
"""
