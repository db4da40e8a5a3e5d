"""The environment variables by which a Python process is told to use echorig as `iblutil.io.net`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..compatibility import Compatibility
from .startup.echorig_finder import SWITCHES

__all__ = ['environment', 'switches_of']

_STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'startup')


def environment(compatibility: Compatibility, current: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for child processes; `current` is the environment that they are added to."""
    given = current.get('PYTHONPATH')
    paths = [path for path in given.split(os.pathsep) if path != _STARTUP] if given else []
    return {
        'PYTHONPATH': os.pathsep.join([_STARTUP, *paths]),
        SWITCHES: ','.join(name for name in compatibility.names() if name not in compatibility.off) or 'none',
    }


def switches_of(current: Mapping[str, str]) -> Compatibility:
    """Return the switches that an environment names; those of another version are ignored."""
    named = current.get(SWITCHES, '').split(',')
    return Compatibility(**{name: name in named for name in Compatibility.names()})
