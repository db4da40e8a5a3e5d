"""Reading which rigs there are from a file: what iblrig calls ``remote_devices.yaml``, one ``name: URI`` a line."""

from __future__ import annotations

import os

from ..checks import path as checked_path

__all__ = ['read_rigs']


def read_rigs(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a YAML file that maps the names of rigs to their URIs.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    dict of str to str
        The URI of each rig, by name, in the order of the file.

    Raises
    ------
    TypeError
        It is no path; a number, for example, which stands for a file that the process has open.
    ImportError
        PyYAML is not installed.
    OSError
        The file cannot be read.
    ValueError
        It is not YAML, or not of that form.
    """
    name = checked_path(path, 'rigs')
    try:
        import yaml
    except ImportError as ex:
        raise ImportError(f"Reading {path} needs PyYAML: pip install 'echorig[yaml]'") from ex
    try:
        with open(name, encoding='utf-8') as file:
            content = yaml.safe_load(file.read())
    except (yaml.YAMLError, UnicodeDecodeError) as ex:
        raise ValueError(f'{path} is no YAML: {ex}') from ex
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(f'{path} should have lines of the form "name: URI", and is a {type(content).__name__}')
    for name, uri in content.items():
        if not isinstance(name, str) or not isinstance(uri, str):
            raise ValueError(f'{path} should have lines of the form "name: URI", not {name!r}: {uri!r}')
    return content
