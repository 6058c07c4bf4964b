"""Weight versions: who hands them out, and what they mean.

A version names one set of weights. Every sampled token carries the version it was sampled under,
the lag of a token is counted in versions, and prefix-cache entries are salted with it, so no number
may ever stand for two sets.
"""

from __future__ import annotations


class WeightVersions:
    """The one counter of a command: each change of the samplers' weights takes a new version."""

    def __init__(self) -> None:
        self._newest = 0

    @property
    def newest(self) -> int:
        """The version handed out last; 0 before the first."""
        return self._newest

    def next(self) -> int:
        """A version that no weights have had."""
        self._newest += 1
        return self._newest

    def restored(self, version: int) -> int:
        """The version of weights that were read back from a checkpoint.

        It is the one they had when they were saved, so that a resumed run counts as an
        uninterrupted one does; a new one if this command has handed out that number already.
        """
        self._newest = max(self._newest + 1, version)
        return self._newest
