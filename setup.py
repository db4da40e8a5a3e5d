"""The compiled modules; everything else about the package is in pyproject.toml."""

import os
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

# Line tracing for coverage of the .pyx files (slow; `.ci/coverage` sets it).
trace = os.environ.get('ECHORIG_TRACE') == '1'

# Builds that look for errors; tests/fuzz/Makefile makes them. `fuzz` counts the branches taken and needs CC=clang.
# `address,undefined` has the sanitizers, `memcheck` is for valgrind. They are slow and have their own directories.
watch = os.environ.get('ECHORIG_WATCH', '')
watched = {
    '': [],
    'memcheck': ['-fno-omit-frame-pointer'],
    'fuzz': ['-fsanitize=fuzzer-no-link,address'],
}.get(watch, [f'-fsanitize={watch}', '-fno-sanitize-recover=all', '-fno-omit-frame-pointer'])

optimized = [] if os.name == 'nt' or 'CFLAGS' in os.environ else ['-O3']  # CFLAGS come first, and would not count

SOURCES = sorted(glob('ext/echorig/*/_*.pyx'))
if os.name != 'posix':  # there the event loop's own transports serve
    SOURCES = [path for path in SOURCES if not path.endswith(('_datagram.pyx', '_stream.pyx'))]

extensions = [
    Extension(
        path.replace(os.sep, '/').removeprefix('ext/').removesuffix('.pyx').replace('/', '.'),
        [path],
        include_dirs=['ext/echorig/wire'],
        define_macros=[('CYTHON_TRACE_NOGIL', '1'), ('CYTHON_USE_SYS_MONITORING', '0')] if trace else [],
        extra_compile_args=['-O1', '-g', *watched] if watched else optimized,
        extra_link_args=[] if watch == 'fuzz' else watched,  # atheris has what counts the branches
        depends=glob('ext/echorig/*/*.h'),
    )
    for path in SOURCES
]

setup(
    ext_modules=cythonize(
        extensions,
        include_path=['ext'],
        compiler_directives={'linetrace': trace},
        show_all_warnings=False,
    ),
)
