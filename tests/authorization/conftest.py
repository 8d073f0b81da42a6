"""The fixtures of the tests of authorization at the server."""

from tests.support.leaks import leaks

__all__ = ["leaks"]
