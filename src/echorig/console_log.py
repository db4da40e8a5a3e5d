"""The logger of a communicator that was opened without one. With `Compatibility.console_log` it prints."""

from __future__ import annotations

import logging
import sys

from .compatibility import in_force

__all__ = ['logger_for', 'set_up_console_log']

_FORMAT = '%(asctime)s [%(name)s] %(levelname)-8s %(filename)s:%(lineno)-4d %(message)s'
_DATE = '%Y-%m-%d %H:%M:%S'
_COLORS = {
    'DEBUG': 'green',
    'INFO': 'cyan',
    'WARNING': 'bold_yellow',
    'ERROR': 'bold_red',
    'CRITICAL': 'bold_purple',
}


def logger_for(name: str) -> logging.Logger:
    """Return the logger of a communicator."""
    return set_up_console_log(name) if in_force().console_log else logging.getLogger(name)


def set_up_console_log(name: str, level: int = logging.DEBUG) -> logging.Logger:
    """Let a logger print to the standard output, in colours if colorlog is installed, and return it."""
    try:
        from colorlog import ColoredFormatter
    except ImportError:
        formatter = logging.Formatter(_FORMAT, _DATE)
    else:
        formatter = ColoredFormatter(f'%(log_color)s{_FORMAT}', _DATE, log_colors=_COLORS)
    handler = logging.StreamHandler(sys.stdout)
    handler.name = f'{name}_auto'  # programs look for the handler by this name
    handler.setFormatter(formatter)
    handler.setLevel(level)
    log = logging.getLogger(name)
    log.setLevel(level)
    log.handlers = [handler]
    return log
