"""Run one target under atheris: ``python -m fuzz TARGET [option of libFuzzer | folder] ...``; `make fuzz` does."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings

from fuzz import TARGETS

CHILD = 'ECHORIG_FUZZ_TARGET'  # the processes that libFuzzer starts to merge are not told the name


def main() -> None:
    target = os.environ.get(CHILD)
    if target is None:
        target = sys.argv.pop(1) if len(sys.argv) > 1 else ''
    if target not in TARGETS:
        sys.exit(f'There is no target {target!r}; choose from {", ".join(TARGETS)}')
    os.environ[CHILD] = target
    import atheris  # first: the compiled modules look for what counts their branches

    with atheris.instrument_imports(include=['echorig']):
        one_input = importlib.import_module(f'fuzz.{target}').one_input
    from echorig.wire import _codec

    if 'build' not in _codec.__file__:
        sys.exit(f'{_codec.__file__} does not count its branches: it is not the build for fuzzing')
    warnings.simplefilter('ignore')
    logging.getLogger().addHandler(logging.NullHandler())
    # libFuzzer starts itself again by the first of these, to merge.
    atheris.Setup([f'{sys.executable} -m fuzz', *sys.argv[1:]], one_input)
    atheris.Fuzz()


main()
