"""A main PC and a rig, written for iblutil: they know nothing of echorig.

``dropin_program.py rig NAME URI`` serves until it has cleaned up; ``dropin_program.py main NAME=URI ...`` runs a
session. Both report lines ``@@ {...}`` on standard output, between the log lines of iblutil.
"""

import asyncio
import json
import sys
from functools import partial
from types import SimpleNamespace

import yaml
from iblutil.io import net
from iblutil.io.net.app import EchoProtocol, Services
from iblutil.io.net.base import Communicator, ExpMessage, ExpStatus

PATIENCE = 60.0  # seconds; a time-out closes iblutil
REF = '2022-01-01_1_subject'
TOKEN = 'a' * 8 + 'f' * 32
ALYX = SimpleNamespace(base_url='https://alyx.example.org', user='olivia', _token={'token': TOKEN}, is_logged_in=True)


def report(**what):
    print('@@ ' + json.dumps(what), flush=True)


def describe():
    """Report whose classes these are, in each of the ways in which programs reach them."""
    assert net.app.EchoProtocol is EchoProtocol
    assert net.base.ExpMessage is ExpMessage
    assert issubclass(EchoProtocol, Communicator)
    report(classes=EchoProtocol.__module__.partition('.')[0])


class Rig:
    """Answers every message, sends its token if it is asked for one, and ends with EXPCLEANUP."""

    def __init__(self, com):
        self.com, self.tasks, self.cleaned_up = com, set(), asyncio.Event()
        for event in ExpMessage.__members__.values():
            callback = self.on_alyx if event is ExpMessage.ALYX else partial(self.on_message, event)
            com.assign_callback(event, callback)

    def keep(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def on_message(self, event, data, addr):
        report(executed=event.name, data=data)
        self.keep(self.answer(event, data, addr))

    def on_alyx(self, data, addr):
        if data[1]:
            report(token=yaml.safe_load(yaml.safe_dump({'data': list(data)}))['data'])
        else:
            report(asked=data)
            self.keep(self.com.alyx(ALYX, addr))

    async def answer(self, event, data, addr):
        if event is ExpMessage.EXPINIT:  # a rig may send on its own, too
            await self.com.info(ExpStatus.INITIALIZED, {'name': self.com.name}, addr)
        await self.com.confirmed_send([event, *data], addr)
        if event is ExpMessage.EXPCLEANUP:
            self.cleaned_up.set()


async def run_rig(name, uri):
    com = await EchoProtocol.server(uri, name)
    com.default_echo_timeout = PATIENCE
    rig = Rig(com)
    report(uri=com.server_uri)
    await rig.cleaned_up.wait()
    last = asyncio.ensure_future(com.on_event(ExpMessage.any()))
    await asyncio.sleep(0)
    com.close()
    await asyncio.wait([last])
    report(cancelled=last.cancelled())


async def run_main(uris):
    rigs = []
    for name, uri in uris.items():
        com = await EchoProtocol.client(uri, name)
        com.default_echo_timeout = PATIENCE
        rigs.append(com)
    services = Services(rigs, timeout=PATIENCE)
    infos = []
    services.assign_callback('EXPINFO', lambda data, addr: infos.append(data[-1]))
    calls = [
        ('status', ExpStatus.CONNECTED),
        ('init', {'exp_ref': REF}),
        ('start', REF),
        ('status', ExpStatus.RUNNING),
        ('stop',),
    ]
    for method, *args in calls:
        report(call=method, answers=await getattr(services, method)(*args))
    report(infos=sorted(info['name'] for info in infos))
    await services.alyx(ALYX)
    tokens = {name: await rig.alyx() for name, rig in services.items() if not name.startswith('matlab')}
    report(tokens={name: list(token) for name, token in tokens.items()})
    report(call='cleanup', answers=await services.cleanup({'reason': 'done'}))
    services.close()
    report(connected=bool(services.is_connected))


if __name__ == '__main__':
    describe()
    if sys.argv[1] == 'rig':
        asyncio.run(run_rig(*sys.argv[2:]))
    else:
        asyncio.run(run_main(dict(arg.split('=', 1) for arg in sys.argv[2:])))
