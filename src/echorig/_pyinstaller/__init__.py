"""The hook of PyInstaller for programs that use echorig; the entry point ``pyinstaller40`` names this package."""

import os


def get_hook_dirs() -> list[str]:
    """Return the folders with hooks."""
    return [os.path.dirname(__file__)]
