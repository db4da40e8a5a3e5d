"""The program of a rig PC: it does what the main PC asks for, and answers every message.

Usage: python rig.py NAME URI        such as: python rig.py camera udp://0.0.0.0:11001
"""

import asyncio
import sys

from echorig import EchoError, EchoProtocol, ExpMessage, ExpStatus


async def main(name: str, uri: str) -> None:
    """Handle messages until the main PC sends the cleanup message."""
    status = ExpStatus.CONNECTED
    async with await EchoProtocol.server(uri, name) as com:
        print(f'{name} listens on {com.server_uri}', flush=True)
        event = None
        while event != ExpMessage.EXPCLEANUP:
            data, addr, event = await com.on_event(ExpMessage.any())
            try:
                match event:
                    case ExpMessage.EXPINIT:
                        settings = data[0]
                        status = ExpStatus.INITIALIZED  # here the hardware is made ready
                        await com.init({'ready': True, 'settings': settings}, addr=addr)
                    case ExpMessage.EXPSTART:
                        exp_ref = data[0]
                        status = ExpStatus.RUNNING  # here the acquisition starts
                        await com.start(exp_ref, {'folder': f'/data/{name}/{exp_ref}'}, addr=addr)
                    case ExpMessage.EXPEND | ExpMessage.EXPINTERRUPT:
                        status = ExpStatus.STOPPED
                        immediately = event == ExpMessage.EXPINTERRUPT
                        await com.stop({'frames': 5400}, immediately=immediately, addr=addr)
                    case ExpMessage.EXPSTATUS:
                        await com.status(status, addr=addr)
                    case ExpMessage.EXPINFO:
                        await com.info(status, {'free_space_gb': 812}, addr=addr)
                    case ExpMessage.EXPCLEANUP:
                        await com.cleanup(addr=addr)
            except EchoError as error:  # the main PC has left: the rig continues
                print(f'the answer to {event.name} was not confirmed: {error}', flush=True)
            print(f'{event.name}: {status.name}', flush=True)


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
