"""A rig: ``python rig.py camera udp://0.0.0.0:11001``. Replace the bodies of the functions by your own work."""

import sys
import time

from echorig import Rig

rig = Rig(sys.argv[1])


@rig.on('EXPINIT')
def init(data):
    for i in range(3):  # warming up; the main PC sees the progress
        rig.progress(i / 3, 'warming up')
        time.sleep(0.05)
    if data.get('broken') == rig.name:
        raise RuntimeError('the shutter does not open')
    return {'ready': True}


@rig.on('EXPSTART')
def start(exp_ref, data):
    print('start', exp_ref)
    return {'file': f'{exp_ref}.{rig.name}'}


@rig.on('EXPEND')
def stop():  # also called if the experiment is interrupted, or this program is ended
    print('stop')


@rig.on('EXPINFO')
def info(status, data):  # the trials of the task
    print('trial', data['trial'])


@rig.on('EXPCLEANUP')
def cleanup():
    print('cleanup')


@rig.on_lost
def lost():
    print('the main PC is gone: recording goes on')


rig.run(sys.argv[2])
