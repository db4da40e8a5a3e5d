"""Task code without an event loop: it runs a few trials and keeps any number of rigs informed.

Usage: python task_code.py NAME=URI ...   such as: python task_code.py camera=udp://192.168.0.12 ephys=tcp://192.168.0.13
"""

import logging
import sys
import threading

from echorig import ExpMessage, ExpStatus, ServicesError, sync


def trials(rigs: sync.Services, number: int) -> None:
    """Run the trials, until the last one or until a rig interrupts."""
    interrupted = threading.Event()

    def interrupt(data, addr, rig):  # runs on another thread, so it only sets a flag
        print(f'{rig.name} interrupts: {data[0]}')
        interrupted.set()

    informing = None
    try:
        rigs.assign_callback(ExpMessage.EXPINTERRUPT, interrupt, return_service=True)
        for trial in range(number):
            if interrupted.wait(0.1):  # here the animal works
                break
            if informing is not None:
                informing.result()  # the rigs had a whole trial to answer; raises if one has failed
            informing = rigs.submit.info(ExpStatus.RUNNING, {'trial': trial})  # does not wait
        if informing is not None:
            print('info', informing.result())
    finally:
        rigs.clear_callbacks(ExpMessage.EXPINTERRUPT, interrupt)


def session(rigs: sync.Services, exp_ref: str) -> None:
    """Take the rigs through one experiment, and end it for all of them, even after an error."""
    ended = False
    try:
        print('init', rigs.init())
        print('start', rigs.start(exp_ref))
        trials(rigs, 5)
        print('stop', rigs.stop())
        ended = True
    finally:
        if not ended:  # a rig has failed, or Ctrl-C was pressed
            rigs.submit.stop(immediately=True).exception()
        rigs.submit.cleanup().exception()  # waits, and raises nothing, so that the error above is reported


def main(uris: dict[str, str]) -> str | None:
    """Open a client of each rig; return the text of the failures."""
    try:
        with sync.Services.connect(uris) as rigs:
            session(rigs, '2026-01-31_1_mouse7')
    except ServicesError as error:
        return '\n'.join(f'{name} failed: {failure}' for name, failure in error.failures.items())
    except KeyboardInterrupt:
        return 'interrupted'
    return None


if __name__ == '__main__':
    logging.basicConfig(level=logging.CRITICAL)  # failures are printed at the end
    sys.exit(main(dict(argument.split('=', 1) for argument in sys.argv[1:])))
