"""The corpus of each target: ``python -m fuzz.corpus unpack|pack TARGET FOLDER``.

It is kept in one archive for each target, ``corpus/TARGET.zip``. Inputs that once failed are in ``found/TARGET.zip``,
each with a name that says what it shows.
"""

from __future__ import annotations

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

HERE = Path(__file__).parent


def archive(target: str) -> Path:
    return HERE / 'corpus' / f'{target}.zip'


def inputs(target: str) -> dict[str, bytes]:
    """Return all inputs of a target, by name."""
    names: dict[str, bytes] = {}
    for path in (archive(target), HERE / 'found' / f'{target}.zip'):
        if path.exists():
            with ZipFile(path) as kept:
                names |= {name: kept.read(name) for name in kept.namelist()}
    return names


def unpack(target: str, folder: Path) -> None:
    """Write all inputs of a target into a folder, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in inputs(target).items():
        (folder / name).write_bytes(data)


def pack(target: str, folder: Path) -> None:
    """Replace the corpus of a target by the files of a folder; equal files make equal archives."""
    with ZipFile(archive(target), 'w') as kept:
        for path in sorted(folder.iterdir()):
            kept.writestr(ZipInfo(path.name), path.read_bytes(), ZIP_DEFLATED, 9)


if __name__ == '__main__':
    {'unpack': unpack, 'pack': pack}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
