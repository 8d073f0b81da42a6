"""`trio-mcp demo`."""
