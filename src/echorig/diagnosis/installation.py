"""What this installation has: versions, loop, compiled parts, extras; for bug reports."""

from __future__ import annotations

import os
import platform
import ssl
import sys
from importlib import metadata

import orjson

from .._version import __version__
from ..loop import ENVIRONMENT as LOOP_VARIABLE
from ..loop import loop_name
from ..transports.choice import ENVIRONMENT as TRANSPORTS_VARIABLE
from ..transports.choice import wants_compiled
from ..wire import _codec

__all__ = ['installation']

_EXTRAS = {
    'cli': ('rich',),
    'yaml': ('PyYAML',),
    'alyx': ('ONE-api',),
    'discovery': ('zeroconf',),
    'journal': ('pyarrow', 'pynwb'),
}
_LOOPS = ('uvloop', 'winloop')


def installation() -> dict[str, str]:
    """Return what this installation has, as text by name.

    Returns
    -------
    dict of str to str
        Versions of echorig, Python and the packages it uses, the event loop, the transports and the platform. No name
        of a user or a computer.
    """
    bits = 64 if sys.maxsize > 2**32 else 32
    known = (LOOP_VARIABLE, TRANSPORTS_VARIABLE)
    set_variables = [f'{name}={os.environ[name]}' for name in known if os.environ.get(name)]
    return {
        'echorig': __version__,
        'python': f'{platform.python_implementation()} {platform.python_version()}, {bits} bits',
        'platform': f'{platform.system()} {platform.release()}, {platform.machine()}',
        'loop': ', '.join([loop_name(), *(_version(name) for name in _LOOPS)]),
        'transports': 'compiled' if wants_compiled() else 'of the event loop',
        'core': f'compiled ({os.path.basename(str(_codec.__file__))})',
        'environment': ', '.join(set_variables) or 'nothing set',
        'packages': f'{_version("aiohappyeyeballs")}, orjson {orjson.__version__}',
        'openssl': ssl.OPENSSL_VERSION,
        **{
            f'echorig[{extra}]': ', '.join(_version(package) for package in packages)
            for extra, packages in _EXTRAS.items()
        },
        'iblutil': _version('iblutil'),
    }


def _version(package: str) -> str:
    try:
        return f'{package} {metadata.version(package)}'
    except metadata.PackageNotFoundError:
        return f'{package} not installed'
