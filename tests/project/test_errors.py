from __future__ import annotations

import asyncio
import pickle

import pytest

from echorig import errors

TREE = {
    'EchoTimeoutError': (TimeoutError, asyncio.TimeoutError),
    'PeerUnreachableError': (errors.EchoTimeoutError, ConnectionRefusedError),
    'EchoMismatchError': (RuntimeError,),
    'ConnectionClosedError': (ConnectionError,),
    'TLSError': (ConnectionError,),
    'MessageTooLongError': (ValueError,),
    'RemoteCallbackError': (RuntimeError,),
    'ServicesError': (errors.EchoError,),
    'ServicesTimeoutError': (errors.ServicesError, errors.EchoTimeoutError, TimeoutError, asyncio.TimeoutError),
    'RigLostError': [errors.ServicesError],
}


def test_the_tree_is_complete():
    assert {'EchoError', *TREE} == set(errors.__all__)
    for name in errors.__all__:
        assert name in errors.__doc__


@pytest.mark.parametrize('name', TREE)
def test_errors_inherit_the_documented_built_in_errors(name):
    cls = getattr(errors, name)
    assert issubclass(cls, errors.EchoError)
    for base in TREE[name]:
        assert issubclass(cls, base)


def test_attributes():
    remote = errors.RemoteCallbackError('text', 2, 'ValueError: x', ('h', 1))
    assert (str(remote), remote.event, remote.message, remote.addr) == ('text', 2, 'ValueError: x', ('h', 1))
    failed = errors.ServicesTimeoutError('text', {'a': [1]}, {'b': remote})
    assert (str(failed), failed.responses, failed.failures) == ('text', {'a': [1]}, {'b': remote})


def test_errors_can_be_pickled():
    for error in (errors.EchoTimeoutError('x'), errors.PeerUnreachableError('x'), errors.ConnectionClosedError('x')):
        assert str(pickle.loads(pickle.dumps(error))) == 'x'
    remote = errors.RemoteCallbackError('x', 2, 'y', ('h', 1))
    copy = pickle.loads(pickle.dumps(errors.ServicesTimeoutError('z', {'a': [1]}, {'b': remote})))
    assert (str(copy), copy.responses, str(copy.failures['b']), copy.failures['b'].addr) == (
        'z',
        {'a': [1]},
        'x',
        ('h', 1),
    )
