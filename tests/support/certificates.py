"""Certificates of the tests."""

from __future__ import annotations

import datetime
import ssl
import subprocess

import pytest

try:
    import trustme
except ImportError:
    trustme = None

V2, V3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
DAY = datetime.timedelta(days=1)


class Papers:
    """Authorities, certificates and TLS contexts. They are read from files before any loop runs."""

    def __init__(self) -> None:
        now = datetime.datetime.now(datetime.timezone.utc)
        self.ours, self.theirs = trustme.CA(), trustme.CA()
        issue = self.ours.issue_cert
        self.certs = {
            'good': issue('127.0.0.1', 'localhost'),
            'expired': issue('127.0.0.1', 'localhost', not_before=now - 3 * DAY, not_after=now - DAY),
            'not yet': issue('127.0.0.1', 'localhost', not_before=now + DAY, not_after=now + 3 * DAY),
            'elsewhere': issue('10.0.0.66', 'elsewhere.lab.org'),
            'stranger': self.theirs.issue_cert('127.0.0.1', 'localhost'),
        }
        self.servers = {name: self.server(cert) for name, cert in self.certs.items()}
        self.server_again = self.server(self.certs['good'])
        self.demanding = {version: self.server(self.certs['good'], True, version) for version in (V2, V3)}
        self.client = self._client()
        self.newest = self._client()
        self.newest.minimum_version = V3
        self.with_cert, self.with_strange_cert, self.with_expired_cert = (
            self._client(self.ours.issue_cert('main@lab.org')),
            self._client(self.theirs.issue_cert('main@lab.org')),
            self._client(self.certs['expired']),
        )
        self.suspicious = ssl.create_default_context()

    def server(self, cert: trustme.LeafCert, demanding: bool = False, version: ssl.TLSVersion = V3) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.maximum_version = version
        cert.configure_cert(context)
        if demanding:
            self.ours.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _client(self, cert: trustme.LeafCert | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.ours.configure_trust(context)
        if cert is not None:
            cert.configure_cert(context)
        return context


@pytest.fixture(scope='module')
def papers():
    if trustme is None:
        pytest.skip('no trustme here')
    return Papers()


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate for 127.0.0.1 with the openssl program."""
    key, cert = tmp_path / 'key.pem', tmp_path / 'cert.pem'
    command = (
        f'openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=rig '
        f'-addext subjectAltName=IP:127.0.0.1,DNS:localhost -keyout {key} -out {cert}'
    )
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as ex:
        pytest.skip(f'no openssl program here: {ex}')
    return cert, key
