"""Tests of `trio-mcp login`, `logout` and `whoami`, and of tokens for other commands."""
