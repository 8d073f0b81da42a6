"""The fixtures of the tests of authorization at the client."""

from tests.oauth.fake_network import network
from tests.support.leaks import leaks

__all__ = ["leaks", "network"]
