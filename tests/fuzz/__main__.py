"""Run one target under atheris: ``python -m fuzz TARGET [option of libFuzzer | folder] ...``; `make fuzz` does."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings

from fuzz import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f'There is no such target; choose from {", ".join(TARGETS)}')
    import atheris

    with atheris.instrument_imports(include=['echorig']):
        one_input = importlib.import_module(f'fuzz.{sys.argv[1]}').one_input
    from echorig import _codec

    if 'build' not in _codec.__file__:
        sys.exit(f'{_codec.__file__} does not count its branches: it is not the build for fuzzing')
    warnings.simplefilter('ignore')
    logging.getLogger().addHandler(logging.NullHandler())
    atheris.Setup([sys.argv[0], *sys.argv[2:]], one_input)
    atheris.Fuzz()


main()
