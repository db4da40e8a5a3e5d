"""echorig under the name `iblutil.io.net.base`."""

import asyncio
import ipaddress
import json
import logging
import re
import socket
import warnings
from abc import ABC, abstractmethod
from asyncio import isfuture
from enum import IntEnum, IntFlag, auto
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Any
from urllib.parse import urlparse

from echorig.base import (
    LISTEN_PORT,
    PROTOCOL_VERSION,
    Communicator,
    ExpMessage,
    ExpStatus,
    Service,
    external_ip,
    hostname2ip,
    is_success,
    is_valid_ip,
    validate_uri,
)

__all__ = [
    'ABC',
    'LISTEN_PORT',
    'PROTOCOL_VERSION',
    'Communicator',
    'ExpMessage',
    'ExpStatus',
    'IntEnum',
    'IntFlag',
    'Service',
    'abstractmethod',
    'asyncio',
    'auto',
    'external_ip',
    'hostname2ip',
    'ipaddress',
    'is_success',
    'is_valid_ip',
    'isfuture',
    'json',
    'logging',
    'or_',
    're',
    'reduce',
    'socket',
    'urlparse',
    'validate_uri',
    'warnings',
]

if __name__ == 'iblutil.io.net.base':
    # A pickled event or status is read by programs with iblutil and without echorig, and the other way round.
    ExpMessage.__module__ = ExpStatus.__module__ = __name__


def __getattr__(name: str) -> Any:
    if name != 'urllib':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    import_module('urllib.request')  # takes long, and only `external_ip` needs it
    return import_module('urllib')
