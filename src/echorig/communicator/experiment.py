"""The messages of an experiment, sent and confirmed."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

from ..checks import seconds
from ..errors import EchoTimeoutError
from ..events._reply_context import Question, asking, current, names
from ..events.backlog import Message
from ..messages import ExpMessage
from ..stall import wait_for
from ..uri import Address, checked_address
from .base import Communicator
from .service import Service

__all__ = ['Messenger']


class Messenger(Communicator):
    """A communicator that sends each message of an experiment and waits for its confirmation.

    Each method raises what `confirmed_send` raises.
    """

    __slots__ = ()

    response_timeout: float = 3.0
    """float: How long to wait for the answer to a request, in seconds."""

    @abstractmethod
    async def confirmed_send(self, data: Any, addr: Any = None, timeout: float | None = None) -> None:
        """Send a message and wait for its echo."""

    def _is_from(self, sender: Address, addr: Any) -> bool:
        """Tell whether a message came from an address that a user gave."""
        return sender == checked_address(addr)

    async def init(self, data: Any = None, addr: Any = None) -> None:
        """Tell the remote host to get ready for an experiment.

        Parameters
        ----------
        data : Any
            Optional details, of any type that JSON can carry.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time (a `TimeoutError`).
        """
        await self.confirmed_send(Service.init(self, data), addr=addr)

    async def start(self, exp_ref: Any, data: Any = None, addr: Any = None) -> None:
        """Tell the remote host that the experiment starts.

        Parameters
        ----------
        exp_ref : str or dict
            The experiment reference, ``yyyy-mm-dd_n_subject``, or a dict of its parts ``date``,
            ``sequence`` and ``subject``.
        data : Any
            Optional details.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time (a `TimeoutError`).
        """
        await self.confirmed_send(Service.start(self, exp_ref, data), addr=addr)

    async def stop(self, data: Any = None, immediately: bool = False, addr: Any = None) -> None:
        """Tell the remote host that the experiment ends.

        Parameters
        ----------
        data : Any
            Optional details.
        immediately : bool
            Whether to interrupt the experiment (EXPINTERRUPT) instead of ending it (EXPEND).
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time (a `TimeoutError`).
        """
        await self.confirmed_send(Service.stop(self, data, immediately), addr=addr)

    async def status(self, status: Any, addr: Any = None) -> None:
        """Tell the remote host a status.

        Parameters
        ----------
        status : ExpStatus, int or str
            The status, its number or its name.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time (a `TimeoutError`).
        TypeError, ValueError
            There is no such status.
        """
        await self.confirmed_send(Service.status(self, status), addr=addr)

    async def info(self, status: Any, data: Any = None, addr: Any = None) -> None:
        """Tell the remote host a status with details.

        Parameters
        ----------
        status : ExpStatus, int or str
            The status, its number or its name.
        data : Any
            Optional details.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time (a `TimeoutError`).
        TypeError, ValueError
            There is no such status.
        """
        await self.confirmed_send(Service.info(self, status, data), addr=addr)

    async def cleanup(self, data: Any = None, addr: Any = None) -> None:
        """Tell the remote host to tidy up after the experiment.

        Parameters
        ----------
        data : Any
            Optional details.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time (a `TimeoutError`).
        """
        await self.confirmed_send(Service.cleanup(self, data), addr=addr)

    async def alyx(self, alyx: Any = None, addr: Any = None) -> list[Any] | None:
        """Hand an Alyx token to the remote host, or ask the remote host for one.

        Parameters
        ----------
        alyx : one.webclient.AlyxClient, optional
            The client whose token to send. Without one, or where it is not logged in, the remote host is
            asked for its token.
        addr : tuple of (str, int), optional
            The remote host and port; required in the server role.

        Returns
        -------
        list of (str, dict) or None
            After a request, what the remote host answered: ``[base_url, {user: token}]``.

        Raises
        ------
        EchoTimeoutError
            The remote host did not echo the message in time, or, after a request, sent no token within
            `response_timeout` seconds.
        """
        message = Service.alyx(self, alyx)
        if all(message):
            await self.confirmed_send(message, addr=addr)
            return None
        question = Question()
        token = asking.set(question)
        # The answer may come together with the echo: listen before asking.
        answer = self._waiting.expect(ExpMessage.ALYX)
        try:
            await self.confirmed_send(message, addr=addr)
            timeout = seconds(self.response_timeout, 'response_timeout')
            return await wait_for(self._token(answer, question, addr), timeout)
        except EchoTimeoutError:
            raise
        except asyncio.TimeoutError:
            raise EchoTimeoutError(
                f'{self.name} ({self.server_uri}) sent no Alyx token within {self.response_timeout} s'
            ) from None
        finally:
            asking.reset(token)
            question.close()
            self._waiting.forget(answer)

    async def _token(self, answer: asyncio.Future[Message], question: Question, addr: Any) -> list[Any]:
        """Return the token that answers a question; it runs as a task, with a context of its own."""
        _, data, sender, origin, _ = await answer
        current.set(origin)
        while names(self, question) == 0 or (addr is not None and not self._is_from(sender, addr)):
            # Another client's, or of an earlier request; the right one may have come in the same turn.
            data, sender = await self._waiting.next(ExpMessage.ALYX)
        return list(data)
