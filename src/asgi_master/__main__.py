"""`python -m asgi_master`."""

import sys

if not sys.flags.safe_path:
    # The working directory belongs to the application: the master must not import a module of the same name from it.
    del sys.path[0]

from asgi_master.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
