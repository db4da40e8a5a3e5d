"""Access control, signatures, redaction, and rate-limited logging.

Programs that freeze packages read only Python code, so modules that only compiled code uses are imported here.
"""

import codecs
import hashlib
import hmac

from . import _signature

__all__ = ['_signature', 'codecs', 'hashlib', 'hmac']
