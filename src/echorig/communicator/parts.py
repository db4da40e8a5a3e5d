"""`Parts`: the parts of one communicator, made and connected to each other."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from dataclasses import dataclass

from ..delivery._exchange import Exchange
from ..events._dispatch import Dispatcher
from ..events.event_queue import Waiting
from ..events.notifier import Changes, ConnectionChange
from ..security.access import AccessPolicy, signer_for
from ..security.log_limit import LogLimit
from ..security.safe_log import SafeLog
from ..transports.udp import max_size as udp_limit
from ..tuning import InternalTuning
from ..uri import Address
from ._pipeline import MessagePipeline
from .addressing import AddressBook
from .endpoint import Endpoint
from .flow_control import FlowControl
from .interfaces import FrameReceiver
from .labels import Labels
from .sender import Sender

__all__ = ['Parts', 'assembled']


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one communicator."""

    exchange: Exchange
    pipeline: MessagePipeline
    sender: Sender
    access: AccessPolicy
    addresses: AddressBook
    flow_control: FlowControl
    endpoint: Endpoint


def assembled(
    com: FrameReceiver,
    labels: Labels,
    server: Address,
    key: bytes | str | None,
    tuning: InternalTuning,
    waiting: Waiting,
    dispatcher: Dispatcher,
    changes: Changes[ConnectionChange],
    logger: logging.Logger,
    log: SafeLog,
    log_limit: LogLimit,
) -> Parts:
    """Make the parts of a communicator.

    Parameters
    ----------
    com : FrameReceiver
        The communicator.
    labels : Labels
        Its names.
    server : tuple of (str, int)
        The address of the server.
    key : bytes or str, optional
        The key that messages are signed with.
    tuning : InternalTuning
        The limits.
    waiting, dispatcher : Waiting, Dispatcher
        Take new messages.
    changes : Changes
        Reports the connections that are made and lost.
    logger, log, log_limit : logging.Logger, SafeLog, LogLimit
        Where they log.
    """
    loop, is_udp = asyncio.get_running_loop(), labels.protocol == 'udp'
    signer = signer_for(key, is_udp, tuning)
    longest = tuning.max_stream_message if signer is not None else sys.maxsize
    if is_udp:
        longest = udp_limit(server[0])
    exchange = Exchange(
        tuning,
        stream=not is_udp,
        max_size=com.max_message_size,
        run=secrets.randbits(31),
        max_frame=2**62 if signer is not None else longest if is_udp else tuning.max_stream_message,
        signed=signer is not None,
    )
    pipeline = MessagePipeline(
        *(loop, exchange, dispatcher, com, labels, logger, log, log_limit),
        connected=labels.is_client,
        longest=longest,
        datagrams=is_udp,
        signer=signer,
    )
    access = AccessPolicy(labels.name, log)
    addresses = AddressBook(labels, server, access.admits, log, log_limit)
    sender = Sender(pipeline, labels, tuning.min_truncated_echo, lambda: com.max_message_size)
    flow_control = FlowControl(
        *(exchange, waiting, loop, is_udp),
        lambda frame, addr: com._receive(frame, addr),
        pipeline.replay,
        lambda addr: is_udp or addr in pipeline.connections,
        lambda: com.default_echo_timeout,
    )
    endpoint = Endpoint(labels, tuning, pipeline, sender, addresses, access, changes, log, log_limit, waiting.fail)
    access.on_unsigned = sender.not_signed
    waiting.on_room = flow_control.update
    pipeline.observer = sender
    pipeline.on_refused = flow_control.on_refused
    pipeline.on_unsigned = access.refuse_unsigned
    pipeline.source_of = addresses.source_of
    pipeline.max_message_size = lambda: com.max_message_size
    return Parts(exchange, pipeline, sender, access, addresses, flow_control, endpoint)
