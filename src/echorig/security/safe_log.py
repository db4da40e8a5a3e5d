"""`SafeLog`: a logger that never raises, so that a failing filter or handler stops no message."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

__all__ = ['SafeLog']


class SafeLog:
    """Wraps a logger; its methods raise nothing.

    An exception of a filter or handler is printed on stderr once for each type, unless ``logging.raiseExceptions`` is
    false: `logging` does the same with errors in handlers.
    """

    __slots__ = ('_kwargs', '_logger', '_printed')

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        # Log records name the caller of the methods below. A LoggerAdapter may not take the argument.
        self._kwargs: dict[str, Any] = {'stacklevel': 3} if isinstance(logger, logging.Logger) else {}
        self._printed: set[type[BaseException]] = set()

    def isEnabledFor(self, level: int) -> bool:
        """Return whether messages of a level are logged."""
        try:
            return self._logger.isEnabledFor(level)
        except Exception:
            return False

    def debug(self, text: str, *args: Any) -> None:
        """Log at level DEBUG."""
        self._log(self._logger.debug, text, args)

    def info(self, text: str, *args: Any) -> None:
        """Log at level INFO."""
        self._log(self._logger.info, text, args)

    def warning(self, text: str, *args: Any) -> None:
        """Log at level WARNING."""
        self._log(self._logger.warning, text, args)

    def error(self, text: str, *args: Any, error: BaseException | None = None) -> None:
        """Log at level ERROR, with the traceback of `error`."""
        self._log(self._logger.error, text, args, **({} if error is None else {'exc_info': error}))

    def exception(self, text: str, *args: Any) -> None:
        """Log at level ERROR, with the traceback of the exception being handled."""
        self._log(self._logger.error, text, args, exc_info=True)

    def _log(self, method: Any, text: str, args: tuple[Any, ...], **kwargs: Any) -> None:
        try:
            method(text, *args, **kwargs, **self._kwargs)
        except Exception as ex:
            if type(ex) not in self._printed and logging.raiseExceptions and sys.stderr is not None:
                self._printed.add(type(ex))
                try:
                    traceback.print_exc(file=sys.stderr)
                except Exception:  # such as a full disk
                    return
