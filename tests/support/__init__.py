"""Peers, hosts and workers that the tests of several folders use."""
