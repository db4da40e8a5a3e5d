"""The workflows in .github are consistent: every job, matrix value, file and action version exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip('yaml')

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / '.github' / 'workflows'
WORKFLOWS = {path.name: yaml.safe_load(path.read_text('utf-8')) for path in sorted(FOLDER.glob('*.yml'))}
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow['jobs']]
PROJECT = ROOT / 'pyproject.toml'

VERSION = re.compile(r'v\d+(\.\d+)*|release/v\d+|[0-9a-f]{40}')
EXPRESSION = re.compile(r'\$\{\{\s*(\w+)\.([\w-]+)((?:\.[\w-]+)*)\s*\}\}')
CONTEXTS = {'github', 'matrix', 'needs', 'steps', 'inputs', 'secrets', 'vars', 'env', 'runner'}
RUNNERS = {'ubuntu-latest', 'ubuntu-24.04-arm', 'macos-latest', 'macos-15-intel', 'windows-latest'}

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason='the source distribution has no workflows')
each_job = pytest.mark.parametrize(('name', 'job'), JOBS)


def matrix_of(job: dict[str, Any]) -> dict[str, list[Any]]:
    return dict(job.get('strategy', {}).get('matrix', {}))


def needs_of(job: dict[str, Any]) -> set[str]:
    needs = job.get('needs', [])
    return {needs} if isinstance(needs, str) else set(needs)


def uses(workflow: dict[str, Any]) -> Iterator[str]:
    for job in workflow['jobs'].values():
        yield from (part['uses'] for part in (job, *job.get('steps', [])) if 'uses' in part)


def complaints(workflow: dict[str, Any], name: str) -> list[str]:
    """List the expressions of a job with undefined names."""
    job = workflow['jobs'][name]
    known = {
        'matrix': set(matrix_of(job)),
        'needs': needs_of(job),
        'steps': {step['id'] for step in job.get('steps', []) if 'id' in step},
    }
    found = []
    for context, attribute, _ in EXPRESSION.findall(str(job)):
        if context not in CONTEXTS or attribute not in known.get(context, {attribute}):
            found.append(f'{context}.{attribute}')
    if str(job).count('${{') != len(EXPRESSION.findall(str(job))):
        found.append('an expression that this test does not understand')
    return found


@pytest.mark.parametrize('name', WORKFLOWS)
def test_actions_have_a_version_and_local_workflows_exist(name: str) -> None:
    for target in uses(WORKFLOWS[name]):
        if target.startswith('./'):
            assert (ROOT / target).is_file(), target
            assert 'workflow_call' in WORKFLOWS[Path(target).name][True], target  # YAML reads `on` as true
        else:
            action, _, version = target.partition('@')
            assert re.fullmatch(r'[\w-]+/[\w-]+', action), target
            assert VERSION.fullmatch(version), target


@pytest.mark.parametrize('name', WORKFLOWS)
def test_needed_jobs_exist(name: str) -> None:
    graph = {job: needs_of(body) for job, body in WORKFLOWS[name]['jobs'].items()}
    assert set().union(*graph.values()) <= set(graph)
    assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


@each_job
def test_expressions_are_defined(name: str, job: str) -> None:
    assert complaints(WORKFLOWS[name], job) == []


@each_job
def test_runners_exist(name: str, job: str) -> None:
    body = WORKFLOWS[name]['jobs'][job]
    if 'uses' in body:
        return
    runner = body['runs-on']
    assert set(matrix_of(body)['os'] if runner == '${{ matrix.os }}' else [runner]) <= RUNNERS
    assert body['timeout-minutes'] <= 90


@each_job
def test_only_the_job_that_publishes_may_do_more_than_read(name: str, job: str) -> None:
    assert WORKFLOWS[name]['permissions'] == {'contents': 'read'}
    publish = {
        ('release.yml', 'publish'): {'id-token': 'write'},
        ('docs.yml', 'deploy'): {'pages': 'write', 'id-token': 'write'},
    }
    assert WORKFLOWS[name]['jobs'][job].get('permissions') == publish.get((name, job))


@each_job
def test_scripts_that_are_run_exist(name: str, job: str) -> None:
    for step in WORKFLOWS[name]['jobs'][job].get('steps', []):
        for path in re.findall(r'(?:^|\s)(?:repository/)?((?:\.ci|src)/[\w./]+)', step.get('run', '')):
            assert (ROOT / path).is_file(), path


def test_documentation_is_built_by_make_and_published_from_main_only() -> None:
    workflow = WORKFLOWS['docs.yml']
    assert workflow[True] == {'push': {'branches': ['main']}}  # YAML reads `on` as true
    build, deploy = workflow['jobs']['build'], workflow['jobs']['deploy']
    assert needs_of(deploy) == {'build'}
    assert deploy['if'] == "github.ref == 'refs/heads/main'"
    assert deploy['environment']['name'] == 'github-pages'
    steps = [step.get('run') or step['uses'].split('@')[0] for step in build['steps'] + deploy['steps']]
    published = ['actions/upload-pages-artifact', 'actions/configure-pages', 'actions/deploy-pages']
    assert steps[-4:] == ['make docs', *published]
    makefile = (ROOT / 'Makefile').read_text('utf-8')
    rule = makefile[makefile.index('\ndocs:') :].split('\n\n')[0]
    [folder] = [step['with']['path'] for step in build['steps'] if step.get('uses', '').startswith(published[0])]
    assert rule.count(folder) == 2  # it is built there, and checked there
    assert 'sphinx -W' in rule


def test_the_same_pythons_everywhere() -> None:
    text = PROJECT.read_text('utf-8')
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    assert matrix_of(WORKFLOWS['ci.yml']['jobs']['tests'])['python'] == supported
    build = re.search(r'^build = "(.*)"$', text, re.MULTILINE)
    assert build is not None
    assert build.group(1).split() == [f'cp{version.replace(".", "")}-*' for version in supported]


def test_each_system_is_tested_and_has_wheels() -> None:
    for name, job in (('ci.yml', 'tests'), ('wheels.yml', 'wheels')):
        systems = {label.partition('-')[0] for label in matrix_of(WORKFLOWS[name]['jobs'][job])['os']}
        assert systems == {'ubuntu', 'macos', 'windows'}


def test_what_is_published_has_been_tested() -> None:
    jobs = WORKFLOWS['release.yml']['jobs']
    assert needs_of(jobs['publish']) == {'wheels'}
    assert jobs['wheels']['uses'] == './.github/workflows/wheels.yml'
    assert 'test-command = "pytest {package}/tests' in PROJECT.read_text('utf-8')


def test_undefined_names_are_seen() -> None:
    job = {'strategy': {'matrix': {'os': []}}, 'steps': [{'run': '${{ matrix.os }} ${{ matrix.python }} ${{ nix.x }}'}]}
    assert complaints({'jobs': {'a': job}}, 'a') == ['matrix.python', 'nix.x']
    assert complaints({'jobs': {'a': {'steps': [{'run': '${{ a && b }}'}]}}}, 'a') != []
