"""`Service`: the messages of an experiment, with the checks of their arguments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import date
from numbers import Integral
from typing import Any

from ..aliases import AlyxClient, ExpRef, Status
from ..checks import described, flag, number_of, short, text
from ..messages import PROTOCOL_VERSION, ExpMessage, ExpStatus
from ..security.redaction import hide_values

__all__ = ['Service']

# The attributes of an enum take ten times as long to look up as a variable.
_EXPINIT, _EXPSTART, _EXPEND, _EXPCLEANUP, _EXPINTERRUPT, _EXPSTATUS, _EXPINFO, _ALYX = ExpMessage.__members__.values()


# The results have the type Any, because a method of a subclass, which sends the message, has another result.
class Service(ABC):
    """The messages of an experiment, as methods that return the parts of each.

    A subclass overrides each method, calls it, and sends what it returns: a tuple of the event, an `ExpMessage`, and of
    the arguments in the order of the wire.

    Attributes
    ----------
    name : str
        A label for the service.
    """

    __version__ = PROTOCOL_VERSION
    __slots__ = ('name',)
    name: str

    @abstractmethod
    def init(self, data: object = None) -> Any:
        """Compose the message that prepares an experiment.

        Parameters
        ----------
        data : Any
            Optional details, of any type that JSON can carry.
        """
        return _EXPINIT, data

    @abstractmethod
    def start(self, exp_ref: ExpRef, data: object = None) -> Any:
        """Compose the message that starts an experiment.

        Parameters
        ----------
        exp_ref : str or dict
            The experiment reference, ``yyyy-mm-dd_n_subject``, or a dict of its parts ``date``,
            ``sequence`` and ``subject``.
        data : Any
            Optional details.

        Raises
        ------
        TypeError, ValueError
            The reference or a part of it has a wrong type, a part is missing, or the sequence is no number.
        """
        return _EXPSTART, (exp_ref if type(exp_ref) is str else _reference(exp_ref)) or None, data

    @abstractmethod
    def stop(self, data: object = None, immediately: bool = False) -> Any:
        """Compose the message that ends an experiment.

        Parameters
        ----------
        data : Any
            Optional details.
        immediately : bool
            Whether to interrupt the experiment instead of ending it in the ordinary way.
        """
        return _EXPINTERRUPT if flag(immediately, 'immediately') else _EXPEND, data

    @abstractmethod
    def status(self, status: Status) -> Any:
        """Compose the message that reports a status.

        Parameters
        ----------
        status : ExpStatus, int or str
            The status, its number or its name.
        """
        return _EXPSTATUS, _as_status(status)

    @abstractmethod
    def info(self, status: Status, data: object = None) -> Any:
        """Compose the message that reports a status with details.

        Parameters
        ----------
        status : ExpStatus, int or str
            The status, its number or its name.
        data : Any
            Optional details.
        """
        return _EXPINFO, _as_status(status), data

    @abstractmethod
    def cleanup(self, data: object = None) -> Any:
        """Compose the message that tidies up after an experiment.

        Parameters
        ----------
        data : Any
            Optional details.
        """
        return _EXPCLEANUP, data

    @abstractmethod
    def alyx(self, alyx: AlyxClient | None) -> Any:
        """Compose the message that contains an Alyx token or requests one.

        Parameters
        ----------
        alyx : one.webclient.AlyxClient or None
            The client whose token to send. Without one, or if it is not logged in, the message is a request.
        """
        if alyx is None:
            return _ALYX, None, {}
        try:
            return _ALYX, alyx.base_url, hide_values({alyx.user: alyx._token} if alyx.is_logged_in else {})
        except AttributeError:  # the value is not shown, because it may contain a token
            raise TypeError(f'alyx must be a one.webclient.AlyxClient or None, not {type(alyx).__name__}') from None


def _reference(exp_ref: Any) -> str | None:
    """Return an experiment reference as text; None if there is none."""
    if exp_ref is None or isinstance(exp_ref, str):
        return exp_ref
    if not isinstance(exp_ref, Mapping):
        raise TypeError(f'exp_ref must be a str, or a dict of date, sequence and subject, not {described(exp_ref)}')
    try:
        day, sequence, subject = exp_ref['date'], exp_ref['sequence'], exp_ref['subject']
    except KeyError as ex:
        raise ValueError(f'The experiment reference exp_ref={short(exp_ref)} has no {ex}') from ex
    if isinstance(day, date):
        day = day.strftime('%Y-%m-%d')
    text(day, "exp_ref['date']", ' or a datetime.date')
    text(subject, "exp_ref['subject']")
    if isinstance(sequence, str):
        digits = sequence.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise ValueError(f"exp_ref['sequence'] must be a number, not {short(sequence)}")
        sequence = int(digits)
    number = number_of(sequence, "exp_ref['sequence']", 2**63, 0)
    return f'{day}_{number}_{subject}'


def _as_status(status: Any) -> ExpStatus:
    if not isinstance(status, str) and (isinstance(status, bool) or not isinstance(status, Integral)):
        raise TypeError(f'status must be an ExpStatus, its number or its name, not {described(status)}')
    try:
        return ExpStatus[status.strip().upper()] if isinstance(status, str) else ExpStatus(int(status))
    except (KeyError, ValueError) as ex:
        names = ', '.join(f'{member.name} ({member.value})' for member in ExpStatus)
        raise ValueError(f'Unknown status {short(status)}; choose from {names}') from ex
