"""``python -m echorig``: see :mod:`echorig.cli.main`."""

import sys

from .cli.main import entry

if __name__ == '__main__':
    sys.exit(entry())
