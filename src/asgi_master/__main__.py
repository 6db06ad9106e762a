"""`python -m asgi_master`."""

import sys

if not sys.flags.safe_path:
    # The working directory is the application's: no module of its name is for the master to import, now or later.
    del sys.path[0]

from asgi_master.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
