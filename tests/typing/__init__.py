"""What type checkers find in programs that use trio_mcp."""
