"""`BrokerOptions`: how to reach a NATS broker, and how to log in there."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ...checks import path, short, text
from ...threads import in_thread
from ...uri import Uri, checked_subject, parse_broker

__all__ = ['BrokerOptions']

_FILES = ('user_credentials', 'nkeys_seed')
_SECRETS = ('user', 'password', 'token', *_FILES)
_OTHERS = ('servers', 'inbox_prefix', 'tls_hostname', 'ssl')


@dataclass(frozen=True)
class BrokerOptions:
    """The options of a connection to a broker; connections with equal options are shared."""

    servers: tuple[str, ...]
    """tuple of str: The brokers of a cluster to begin with; a broker tells of the others."""
    ssl: ssl.SSLContext | None
    tls_hostname: str | None
    inbox_prefix: str
    login: str = field(repr=False)
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    token: str | None = field(repr=False)
    user_credentials: str | None = field(repr=False)
    """str or None: The name of a file that `nsc` has written."""
    nkeys_seed: str | None = field(repr=False)
    """str or None: The name of a file with the seed of an NKey."""

    @classmethod
    def names(cls) -> set[str]:
        """Return the names of the options that a program may give."""
        return {one.name for one in fields(cls)} - {'login'}

    @classmethod
    def of(cls, uri: Uri, given: Mapping[str, Any]) -> BrokerOptions:
        """Return the options for a URI; raise TypeError or ValueError if one is unknown or not valid."""
        known = cls.names()
        if unknown := [name for name in given if name not in known]:
            raise TypeError(
                f'{uri} has no option {unknown[0]}; over NATS there are {", ".join(_OTHERS)}, {", ".join(_SECRETS)}'
            )
        values: dict[str, Any] = {**dict.fromkeys(known), **given}
        servers = values.pop('servers') or ()
        if isinstance(servers, str) or not all(isinstance(one, str) for one in servers):
            kind = type(servers).__name__  # the value may have a login
            raise TypeError(f"servers must be a list of URIs such as ['nats://10.0.0.5:4222'], not {kind}")
        for one in servers:
            parse_broker(one, 'servers')
        if values['tls_hostname'] is not None:
            text(values['tls_hostname'], 'tls_hostname')
        if values['inbox_prefix'] is None:
            values['inbox_prefix'] = '_INBOX'
        checked_subject(text(values['inbox_prefix'], 'inbox_prefix'), 'inbox_prefix')
        for name in _SECRETS:
            if values[name] is not None and not isinstance(values[name], str) and name not in _FILES:
                raise TypeError(f'{name} must be a str, not {type(values[name]).__name__}')  # its value is not shown
        for name in _FILES:
            if values[name] is not None:
                values[name] = path(values[name], name)
        host = f'[{uri.host}]' if ':' in uri.host else uri.host
        own = f'nats://{host}:{uri.port}'
        return cls(servers=tuple(dict.fromkeys((own, *servers))), login=uri.login, **values)

    async def for_client(self) -> dict[str, Any]:
        """Return the keyword arguments of ``nats.connect``; files are read in a thread."""
        found: dict[str, Any] = {'servers': list(self.servers), 'inbox_prefix': self.inbox_prefix}
        for name in ('user', 'password', 'token', 'tls_hostname'):
            found[name] = getattr(self, name)
        if self.ssl is not None:
            found['tls'] = self.ssl
        if self.login:
            user, mark, password = (unquote(part) for part in self.login.partition(':'))
            found.update({'user': user, 'password': password} if mark else {'token': user})
        if self.user_credentials is not None:
            from nats.aio.client import RawCredentials

            found['user_credentials'] = RawCredentials(await self._read('user_credentials'))
        if self.nkeys_seed is not None:
            found['nkeys_seed_str'] = (await self._read('nkeys_seed')).strip()
        return {name: value for name, value in found.items() if value is not None}

    async def _read(self, name: str) -> str:
        file = Path(path(getattr(self, name), name))
        try:
            return await in_thread(file.read_text, 'utf-8')
        except (OSError, ValueError) as ex:
            raise ValueError(f'{name}: the file {short(str(file))} cannot be read: {ex}') from ex
