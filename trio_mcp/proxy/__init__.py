"""Servers that pass on what other servers offer.

A proxy is a `Server` whose tools, prompts and resources belong to servers that it is a client of.
"""
