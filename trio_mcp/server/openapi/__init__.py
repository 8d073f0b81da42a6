"""Tools and resources that are made of an OpenAPI document, each of which sends one HTTP request.

The package is imported when a server is first given a document.
"""
