"""echorig under the name `iblutil.io.net`.

`echorig.compat` loads the modules of this folder under the names `iblutil.io.net`, ``.app`` and ``.base``. They have
all names that those of iblutil 1.20 have, also the imported ones, because programs and tests use and patch them.
"""

from . import app, base

__all__ = ['app', 'base']
