"""`python -m asgi_master`."""

import sys

from asgi_master.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
