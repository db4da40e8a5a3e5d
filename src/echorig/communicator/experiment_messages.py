"""`composed`: the message of an event, from the arguments of the method of `Service` for that event."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..messages import ExpMessage
from ..references import checked_reference
from .service import Service

__all__ = ['composed']

_METHODS: dict[ExpMessage, Callable[..., Any]] = {
    ExpMessage.EXPINIT: Service.init,
    ExpMessage.EXPSTART: Service.start,
    ExpMessage.EXPEND: Service.stop,
    ExpMessage.EXPINTERRUPT: partial(Service.stop, immediately=True),
    ExpMessage.EXPCLEANUP: Service.cleanup,
    ExpMessage.EXPSTATUS: Service.status,
    ExpMessage.EXPINFO: Service.info,
}


def composed(service: Any, event: ExpMessage, args: tuple[Any, ...], check_exp_ref: bool = False) -> Any:
    """Return the parts of a message; raise `TypeError` or `ValueError` if the arguments are not valid."""
    method = _METHODS.get(event)
    if method is None:
        raise ValueError(f'{event.name} is not answered in this way: use alyx()')
    message = method(service, *args)
    if check_exp_ref and event == ExpMessage.EXPSTART:
        checked_reference(message[1])
    return message
