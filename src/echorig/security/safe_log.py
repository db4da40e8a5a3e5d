"""`SafeLog`: logging that decides nothing: a filter or handler that raises stops neither a send nor a receipt."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

__all__ = ['SafeLog']


class SafeLog:
    """A logger whose methods raise nothing.

    What a filter or handler raises is shown on stderr, as `logging` itself shows what goes wrong in a handler, unless
    ``logging.raiseExceptions`` is false. It is shown once for each kind of exception.

    Parameters
    ----------
    logger : logging.Logger
        The logger of the program.
    """

    __slots__ = ('_caller', '_logger', '_shown')

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._caller: dict[str, Any] = {'stacklevel': 3} if isinstance(logger, logging.Logger) else {}
        self._shown: set[type[BaseException]] = set()

    def isEnabledFor(self, level: int) -> bool:
        """Tell whether messages of a level are logged."""
        try:
            return self._logger.isEnabledFor(level)
        except Exception:
            return False

    def debug(self, text: str, *args: Any) -> None:
        """Log details for those who look for an error."""
        self._call(self._logger.debug, text, args)

    def info(self, text: str, *args: Any) -> None:
        """Log what happens in the ordinary way."""
        self._call(self._logger.info, text, args)

    def warning(self, text: str, *args: Any) -> None:
        """Log what may need attention."""
        self._call(self._logger.warning, text, args)

    def error(self, text: str, *args: Any) -> None:
        """Log what has failed."""
        self._call(self._logger.error, text, args)

    def exception(self, text: str, *args: Any) -> None:
        """Log what has failed, with the traceback of the exception being handled."""
        self._call(self._logger.error, text, args, exc_info=True)

    def log(self, level: int, text: str, *args: Any) -> None:
        """Log at any level."""
        self._call(self._logger.log, level, (text, *args))

    def _call(self, method: Any, first: Any, rest: tuple[Any, ...], **kwargs: Any) -> None:
        try:
            method(first, *rest, **kwargs, **self._caller)
        except Exception as ex:
            if type(ex) not in self._shown and logging.raiseExceptions and sys.stderr is not None:
                self._shown.add(type(ex))
                try:
                    traceback.print_exc(file=sys.stderr)
                except Exception:  # a full disk, which the program has to notice elsewhere
                    return
