"""``python -m echorig``: see :mod:`echorig.cli`."""

import sys

from .cli import entry

if __name__ == '__main__':
    sys.exit(entry())
