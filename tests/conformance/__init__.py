"""The official conformance suite, run against trio_mcp."""
