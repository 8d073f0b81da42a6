"""The client's side of authorization: how a token is got, kept, renewed and presented.

Owns the grants of OAuth 2.1 that a client of MCP uses, and where their tokens are stored. Refuses to know
servers, sessions and methods.
"""
