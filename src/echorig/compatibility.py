"""`Compatibility`: what echorig does as iblutil did, for programs that were written for iblutil.

1. By default nothing is switched on. :func:`echorig.compat.install` puts switches in force, for the whole process.
2. Nothing on the path of a message reads a switch, except after an error or where a program has replaced a function.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

__all__ = ['Compatibility', 'in_force', 'put_in_force']


@dataclass(frozen=True)
class Compatibility:
    """Switches for what unmodified iblutil programs rely on and echorig does otherwise.

    Parameters
    ----------
    cancel_waiters : bool
        ``close()`` cancels the coroutines that wait in `on_event`, `confirmed_send` and the methods that send, and
        ``clear_callbacks()`` those in `on_event`: their tasks are cancelled. Otherwise these raise an `EchoError`.
    console_log : bool
        ``EchoProtocol.client()`` and ``server()`` without `log` give the logger of the communicator the level DEBUG and
        a handler that prints to the standard output. Otherwise they change no logger.
    tokens_in_yaml : bool
        The data of ALYX messages are plain dicts, which ``yaml.safe_dump`` can write. Their `repr` shows the token.
        Otherwise it is hidden.
    zero_timeout : bool
        ``default_echo_timeout`` may be set to 0; the next send raises `ValueError`. Otherwise this assignment does.
    patched_names : bool
        ``asyncio.wait_for`` and ``socket.gethostbyname`` are called if a test has replaced them. Otherwise echorig does
        not use these functions.
    """

    cancel_waiters: bool = True
    console_log: bool = True
    tokens_in_yaml: bool = True
    zero_timeout: bool = True
    patched_names: bool = True

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all switches."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def without(cls, names: Iterable[str]) -> Compatibility:
        """Return all switches on, except those that are named.

        Parameters
        ----------
        names : iterable of str
            The switches that are off.

        Returns
        -------
        Compatibility
            The switches.

        Raises
        ------
        ValueError
            There is no such switch.
        """
        names = list(names)
        if unknown := [name for name in names if name not in cls.names()]:
            raise ValueError(f'Unknown switch {", ".join(unknown)}; choose from {", ".join(cls.names())}')
        return cls(**dict.fromkeys(names, False))

    @property
    def off(self) -> tuple[str, ...]:
        """Tuple of str: the names of the switches that are off."""
        return tuple(name for name in self.names() if not getattr(self, name))


_in_force = Compatibility.without(Compatibility.names())


def in_force() -> Compatibility:
    """Return the switches of this process."""
    return _in_force


def put_in_force(compatibility: Compatibility) -> None:
    """Set the switches of this process."""
    global _in_force
    _in_force = compatibility
