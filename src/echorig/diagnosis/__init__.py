"""Why a rig cannot be reached: `diagnose` yields one `Finding` for each step."""

from .diagnose import diagnose
from .finding import Finding

__all__ = ['Finding', 'diagnose']
