"""An Alyx server on loopback: it issues tokens for passwords and answers only requests with a token."""

from __future__ import annotations

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ['AlyxServer']

SUBJECTS = [{'nickname': 'algernon'}]


class AlyxServer:
    """A database of users, served by HTTP from threads of its own; a context manager.

    Parameters
    ----------
    passwords, tokens : dict of str to str
        The password and the token of each user.

    Attributes
    ----------
    requests : list of (str, str, str or None)
        The method, path and user of each request, in order; None for those without a valid token.
    """

    def __init__(self, passwords: dict[str, str], tokens: dict[str, str]) -> None:
        self.passwords = passwords
        self.tokens = tokens
        self.requests: list[tuple[str, str, str | None]] = []
        database = self

        class Handler(_Handler):
            alyx = database

        self._http = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self._http.server_port}'

    def __enter__(self) -> AlyxServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def user_of(self, authorization: str | None) -> str | None:
        """Return the user of the token in an Authorization header."""
        shown = {f'Token {token}': user for user, token in self.tokens.items()}
        return shown.get(authorization or '')


class _Handler(BaseHTTPRequestHandler):
    alyx: AlyxServer

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers['Content-Length'])).decode())
        self.alyx.requests.append(('POST', self.path, None))
        user, password = form.get('username', [''])[0], form.get('password', [''])[0]
        if self.path != '/auth-token':
            self._reply(404, {'detail': 'Not found.'})
        elif user in self.alyx.passwords and self.alyx.passwords[user] == password:
            self._reply(200, {'token': self.alyx.tokens[user]})
        else:
            self._reply(400, {'non_field_errors': ['Unable to log in with provided credentials.']})

    def do_GET(self) -> None:
        user = self.alyx.user_of(self.headers['Authorization'])
        self.alyx.requests.append(('GET', self.path, user))
        if user is None:
            self._reply(403, {'detail': 'Authentication credentials were not provided.'})
        elif self.path == '/me':
            self._reply(200, {'username': user})
        elif self.path == '/subjects':
            self._reply(200, SUBJECTS)
        else:
            self._reply(404, {'detail': 'Not found.'})

    def _reply(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
