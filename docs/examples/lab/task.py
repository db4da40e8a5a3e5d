"""Task code, without an event loop: ``python task.py remote_devices.yaml 5`` runs five trials."""

import sys

from echorig import EchoError, sync

REFERENCE = '2026-01-31_2_mouse7'


def run(rigs_file, n_trials, data):
    with sync.Services.connect(rigs_file, wait=True, timeout=60) as rigs:
        rigs.timeout = 10  # seconds for each answer
        with rigs.experiment(REFERENCE, data) as session:
            print('running', session.answers)
            for trial in range(n_trials):
                rigs.info('RUNNING', {'trial': trial})
                session.sleep(0.5)  # the trial; raises if a rig is lost
    print('done')


try:
    run(sys.argv[1], int(sys.argv[2]), {'broken': ''.join(sys.argv[3:])})
except EchoError as error:
    sys.exit(f'failed: {error}')
except KeyboardInterrupt:
    sys.exit('interrupted: every rig was sent EXPINTERRUPT and EXPCLEANUP')
