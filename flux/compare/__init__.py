"""Comparing two executions: what differs, and the one difference that explains the rest.

Pure: works on traces as `flux.query` gives them. `flux trace diff`, `why`, replay and bisect stand on it.
"""

from flux.compare.executions import compare

__all__ = ["compare"]
