"""Puts echorig under the names of `iblutil.io.net`, for programs that are not to be changed.

1. `iblutil.io.net`, ``.app`` and ``.base`` are modules of echorig (`echorig.compat.net`). All other modules of iblutil,
   installed or not, stay what they are.
2. :func:`install` does this in a running program. ``echorig as-iblutil PROGRAM`` and ``python -m echorig.compat
   PROGRAM`` start a program in an environment in which every Python does it, see `echorig.compat.startup`.
3. Nothing of a program, of iblutil or of Python is changed on disk: without the call or the command, everything is as
   before.
"""

from ..compatibility import Compatibility
from .install import AlreadyLoadedError, install

__all__ = ['AlreadyLoadedError', 'Compatibility', 'install']
