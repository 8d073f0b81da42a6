"""The fixtures of the tests of authorization at the client."""

from tests.oauth.fake_network import network

__all__ = ["network"]
