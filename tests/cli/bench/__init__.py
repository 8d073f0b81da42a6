"""`trio-mcp bench`."""
