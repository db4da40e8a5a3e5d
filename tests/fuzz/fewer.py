"""Fewer examples of hypothesis where each takes fifty times as long: ``pytest -p fuzz.fewer``."""

from __future__ import annotations

from hypothesis import settings


def pytest_configure() -> None:
    settings.register_profile('fewer', parent=settings.get_profile('default'), max_examples=10, derandomize=True)
    settings.load_profile('fewer')
