"""Run a diagnosis and look at its findings."""

from __future__ import annotations

from typing import Any

from echorig.diagnosis import Finding, diagnose

__all__ = ['diagnosed', 'faults', 'finding', 'steps']


async def diagnosed(uri: str, **options: Any) -> list[Finding]:
    """Return all findings about a rig."""
    options.setdefault('timeout', 0.4)
    return [finding async for finding in diagnose(uri, **options)]


def faults(found: list[Finding]) -> list[object]:
    """Return the names of the faults that were found, in order; each has advice."""
    bad = [finding for finding in found if finding.ok is False]
    assert all(finding.advice for finding in bad)
    return [finding.facts.get('fault') for finding in bad]


def steps(found: list[Finding]) -> list[str]:
    return [finding.step for finding in found]


def finding(found: list[Finding], step: str) -> Finding:
    """Return the only finding of a step."""
    [only] = [finding for finding in found if finding.step == step]
    return only
