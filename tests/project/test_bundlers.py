"""Programs that freeze packages read the imports of Python code; none may be hidden in compiled code."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from test_layers import ROOT, cython_imports, python_imports, sources

DECLARATIONS = {'echorig.delivery' + '.' + '_verdicts'}  # of a .pxd file, without a module


def test_all_imports_of_compiled_code_are_in_python_code() -> None:
    """Follow the imports of Python code from ``import echorig`` on, as a bundler does."""
    files = {f'echorig.{module}' if module else 'echorig': path for module, path in sources(ROOT)}
    files = {name.removesuffix('.__init__'): path for name, path in files.items() if path.suffix == '.py'}
    seen: set[str] = set()
    found = ['echorig']
    while found:
        name = found.pop()
        if name in seen:
            continue
        seen.add(name)
        if (path := files.get(name)) is not None:
            found += python_imports(path, path.relative_to(ROOT / 'src').parent.parts)
        found += [name.rpartition('.')[0]] if '.' in name else []
    hidden = set()
    for _, path in sources(ROOT):
        if path.suffix in ('.pyx', '.pxd'):
            for name in cython_imports(path):
                module = name if name in seen else name.rpartition('.')[0] or name
                if not module.startswith(('cython', 'cpython', 'libc')) and module not in seen:
                    hidden.add(module)
    assert hidden <= DECLARATIONS, hidden


def test_pyinstaller_finds_the_hook() -> None:
    (found,) = [entry for entry in entry_points(group='pyinstaller40') if entry.value.startswith('echorig')]
    (folder,) = found.load()()
    assert (Path(folder) / 'hook-echorig.py').is_file()
