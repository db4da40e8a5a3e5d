"""echorig under the name `iblutil.io.net.app`, also as a program: ``python -m iblutil.io.net.app server``."""

import argparse
import asyncio
import json
import logging
import socket
import sys
import urllib.parse
from collections import UserDict
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Any
from urllib.parse import urlparse

from echorig.app import EchoProtocol, Services, main
from echorig.console_log import set_up_console_log as _setup_log

from . import base

__all__ = [
    'EchoProtocol',
    'MappingProxyType',
    'Services',
    'UserDict',
    '_setup_log',
    'argparse',
    'asyncio',
    'base',
    'json',
    'logging',
    'main',
    'partial',
    'socket',
    'sys',
    'urllib',
]

_LAZY = {'colorlog': 'colorlog', 'util': 'iblutil.util'}  # packages that may not be installed


def __getattr__(name: str) -> Any:
    try:
        return import_module(_LAZY[name])
    except (KeyError, ImportError):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}') from None


def _address2tuple(address: str) -> tuple[str | None, int | None]:
    """Return the host and port of a URI."""
    parsed = urlparse(base.validate_uri(address))
    return parsed.hostname, parsed.port


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='A communicator: see echorig server and echorig client.')
    parser.add_argument('role', choices=('server', 'client'), help='what this program is')
    parser.add_argument('--host', '-H', help='the address of the server (default: this computer)')
    parser.add_argument('--verbose', '-v', action='count', default=0, help='has no effect')
    options = parser.parse_args()
    asyncio.run(main(options.role, options.host or str(base.hostname2ip())))
