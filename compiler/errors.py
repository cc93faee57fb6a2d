"""The exceptions that cross modules: a bug, what a host refuses, a probe without an answer."""

from __future__ import annotations


class CompilerBug(Exception):
    """An impossible state: an earlier stage should have refused the input."""


class HostError(Exception):
    """What cannot be done to a host; the text says why, and what to do."""


class ProbeError(Exception):
    """A service that does not serve, and whether it is the password."""

    def __init__(self, why: str, *, is_password: bool = False) -> None:
        super().__init__(why)
        self.is_password = is_password
