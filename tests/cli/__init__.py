"""The command `trio-mcp`."""
