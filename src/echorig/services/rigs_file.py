"""`read_rigs`: reads the names and URIs of rigs from a file, such as iblrig's ``remote_devices.yaml``."""

from __future__ import annotations

import os
from typing import Any

from ..checks import path as checked_path

__all__ = ['read_rigs']


def read_rigs(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the URI of each rig by name, from a YAML file with lines ``name: URI``, in the order of the file."""
    name = checked_path(path, 'rigs')
    try:
        import yaml
    except ImportError as ex:
        raise ImportError(f"Reading {path} needs PyYAML: pip install 'echorig[yaml]'") from ex
    try:
        with open(name, encoding='utf-8') as file:
            content = yaml.load(file.read(), _loader(yaml.SafeLoader, name))
    except (yaml.YAMLError, UnicodeDecodeError) as ex:
        raise ValueError(f'{path} is no YAML: {ex}') from ex
    if not content:
        raise ValueError(f'{path} names no rigs: write lines of the form "name: URI"')
    if not isinstance(content, dict):
        raise ValueError(f'{path} should have lines of the form "name: URI", and is a {type(content).__name__}')
    for name, uri in content.items():
        if not isinstance(name, str) or not isinstance(uri, str):
            raise ValueError(f'{path} should have lines of the form "name: URI", not {name!r}: {uri!r}')
    return content


def _loader(base: Any, path: str) -> Any:
    """Return a loader of YAML that refuses a name that is there twice; otherwise the last one would count."""

    class Loader(base):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ValueError(f'{path} has the name {key.value!r} twice (line {line}): give each rig its own')
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader
