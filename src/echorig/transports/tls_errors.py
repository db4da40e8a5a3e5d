"""Error texts for TLS: the reason, and how to correct it."""

from __future__ import annotations

import ssl

from ..errors import TLSError

__all__ = ['explain_tls_error']

_TRUST = 'pass ssl=ssl.create_default_context(cafile=...) with the authority that signed it'
_VERSION = ('there is no version of TLS in common', 'compare the minimum_version of both contexts')
_SEE_LOG = 'see the log of the other end'
# By X509_V_ERR_*, see x509_vfy.h of OpenSSL.
_UNTRUSTED = {
    9: ('the certificate is not valid yet', 'look at the clocks of both computers'),
    10: ('the certificate has expired', 'renew it, or look at the clock of this computer'),
    18: ('the certificate is self-signed, and not trusted here', 'pass ssl= a context that trusts it (cafile=...)'),
    19: ('the certificate is of an authority that is not trusted here', _TRUST),
    20: ('the certificate is of an authority that is not trusted here', _TRUST),
    21: ('the certificate cannot be traced to an authority', 'add the intermediate certificates at the other end'),
    23: ('the certificate was revoked', 'make a new one'),
    62: ('the certificate is for another host', 'connect by a name that is in it, or make one for this name'),
    64: ('the certificate is for another address', 'connect by a name that is in it, or make one for this address'),
}
# By a part of the reason that OpenSSL reports; the first match counts.
_REASONS = (
    ('CERTIFICATE_REQUIRED', 'it wants a certificate of this end', 'load one with SSLContext.load_cert_chain'),
    ('DID_NOT_RETURN_A_CERTIFICATE', 'it has no certificate, and one is required here', 'give it one'),
    ('ALERT_UNKNOWN_CA', 'it does not trust the authority of our certificate', 'give it that authority (cafile=...)'),
    ('ALERT_CERTIFICATE_EXPIRED', 'it finds our certificate expired', 'renew it, or look at its clock'),
    ('ALERT_CERTIFICATE_REVOKED', 'it finds our certificate revoked', 'make a new one'),
    ('ALERT_BAD_CERTIFICATE', 'it refuses our certificate', _SEE_LOG),
    ('ALERT_CERTIFICATE_UNKNOWN', 'it refuses our certificate', _SEE_LOG),
    ('ALERT_UNSUPPORTED_CERTIFICATE', 'it refuses our certificate', 'make one for this purpose'),
    ('ALERT_ACCESS_DENIED', 'it denies us access', _SEE_LOG),
    *((reason, *_VERSION) for reason in ('PROTOCOL_VERSION', 'UNSUPPORTED_PROTOCOL', 'VERSION_TOO_')),
    ('NO_PROTOCOLS', 'no version of TLS is allowed here', 'look at the minimum_version of the context'),
    ('NO_SHARED_CIPHER', 'there is no cipher in common', 'has the server loaded a certificate (load_cert_chain)?'),
    ('ALERT_HANDSHAKE_FAILURE', 'it refuses', 'it may want a certificate (load_cert_chain), or other ciphers'),
    ('ALERT', 'it refuses', _SEE_LOG),
    *(
        (reason, 'it does not speak TLS', 'are both ends tls:// ?')
        for reason in (
            *('WRONG_VERSION', 'UNEXPECTED_MESSAGE', 'HTTP', 'RECORD', 'PACKET', 'UNKNOWN_PROTOCOL'),
            *('LENGTH', 'BAD_', 'UNEXPECTED'),
        )
    ),
)


def explain_tls_error(error: BaseException | None, who: str, role: str = 'client') -> TLSError:
    """Return a `TLSError` that explains why there is no TLS connection.

    `error` ended the handshake or the connection; any error but those of `ssl` and a time-out means that the other end,
    called `who`, closed the connection. `role` is that of this end.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        what, advice = _UNTRUSTED.get(error.verify_code, (f'{error.verify_message}', 'look at the certificate'))
        if error.verify_code in (62, 64):
            what = f'{what} ({error.verify_message.rstrip(".")})'
        if role == 'server':
            what = f'{what} (the certificate of the client)'
    elif isinstance(error, ssl.SSLError):
        reason = error.reason or ''
        what, advice = next(
            (entry[1:] for entry in _REASONS if entry[0] in reason),
            (reason.replace('_', ' ').lower() or str(error), _SEE_LOG),
        )
        what = f'{what} ({reason})' if reason else what
    elif isinstance(error, TimeoutError):
        what, advice = str(error), 'is a tls:// server there?' if role == 'client' else 'is it a tls:// client?'
    else:
        what = 'it closed the connection during the handshake'
        advice = 'it may not trust our certificate'
        if role == 'client':
            advice = 'is it a tls:// server? Its log may say why: it may want a certificate, or another version of TLS'
    explained = TLSError(f'No TLS connection with {who}: {what}; {advice}')
    explained.__cause__ = error
    return explained
