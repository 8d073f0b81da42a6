"""`python -m trio_mcp.cli`: the command `trio-mcp`."""

from trio_mcp.cli.main import main

if __name__ == "__main__":
    main()
