"""Who gets a received message: callbacks, waiters and streams.

Programs that freeze packages read only Python code, so modules that only compiled code uses are imported here.
"""

import contextvars

__all__ = ['contextvars']
