"""`trio-mcp tasks`."""
