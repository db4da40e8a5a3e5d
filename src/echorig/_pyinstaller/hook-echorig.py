"""Include the modules that echorig imports only when a program needs them."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules('echorig', filter=lambda name: not name.startswith('echorig._pyinstaller'))
