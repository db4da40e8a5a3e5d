"""The compiled modules and the archive of the sources; everything else about the package is in pyproject.toml."""

import gzip
import os
import sys
import tarfile
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.sdist import sdist

# The same sources give the same bytes. All files get this time, also those of a wheel; hatchling has the same default.
os.environ['SOURCE_DATE_EPOCH'] = os.environ.get('SOURCE_DATE_EPOCH') or '1580601600'
EPOCH = int(os.environ['SOURCE_DATE_EPOCH'])

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

# Python's own flags include -g. CFLAGS of the environment come before these, and would have no effect.
optimized = [] if os.name == 'nt' or 'CFLAGS' in os.environ else ['-O3', '-g0']

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


class ReproducibleSdist(sdist):
    """Writes an archive without the times, owners, permissions and order of the files on this computer."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        assert format == 'gztar', format
        path = base_name + '.tar.gz'
        self.mkpath(os.path.dirname(path))
        with (
            open(path, 'wb') as file,
            gzip.GzipFile('', 'wb', fileobj=file, mtime=EPOCH) as packed,
            tarfile.open(fileobj=packed, mode='w', format=tarfile.PAX_FORMAT) as archive,
        ):
            archive.add(base_dir, filter=_plain)  # in alphabetical order
        return path


def _plain(entry):
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ''
    entry.mtime = EPOCH
    entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def compiled():
    """Return the extensions with their C files; none if all commands compile nothing."""
    compiling = {'build', 'build_ext', 'bdist_wheel', 'editable_wheel', 'install', 'develop'}
    if {'egg_info', 'dist_info', 'sdist'} & set(sys.argv) and not compiling & set(sys.argv):
        return []
    return cythonize(
        extensions, include_path=['ext'], compiler_directives={'linetrace': trace}, show_all_warnings=False
    )


setup(ext_modules=compiled(), cmdclass={'sdist': ReproducibleSdist})
