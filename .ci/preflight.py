"""List what this machine lacks for building echorig; runs on any Python, even an old one."""

import os
import shutil
import sys
import sysconfig

problems = []
if sys.version_info < (3, 10):
    problems.append(
        'Python 3.10 or newer is needed, and %s is %s. Choose one: make PYTHON=python3.11 ...'
        % (sys.executable, sys.version.split()[0])
    )
else:
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        problems.append('The venv module is needed (on Debian and Ubuntu: apt install python3-venv).')
    header = os.path.join(sysconfig.get_paths()['include'], 'Python.h')
    if not os.path.exists(header):
        problems.append('The Python headers are needed, %s is missing (Debian: apt install python3-dev).' % header)
    compiler = (os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc').split()[0]
    if os.name == 'posix' and not (shutil.which(compiler) or shutil.which('cc')):
        problems.append('A C compiler is needed, %s is missing (Debian: apt install build-essential).' % compiler)
if problems:
    sys.exit('echorig cannot be built here:\n' + '\n'.join('  - ' + problem for problem in problems))
