"""Messages, tags and frames as bytes.

Programs that freeze packages read only Python code, so modules that only compiled code uses are imported here.
"""

import json

import orjson

from . import values

__all__ = ['json', 'orjson', 'values']
