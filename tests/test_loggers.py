"""Each layer logs to a logger of its own, and all records are made safe to be shown."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import trio_mcp
from trio_mcp.log_records import LAYERS, PrintableFilter

PACKAGE = Path(trio_mcp.__file__).parent
SPECIAL = {
    "transports/asgi/access_log.py": "access",
    "instruments.py": "instruments",
    "middleware/timing.py": "requests",
    "handlers/text_lines.py": "progress",  # lines that a program asks for
}
"""Who does not log to the logger of its folder."""


def logged() -> dict[str, set[str]]:
    """The loggers below `trio_mcp` that each file names."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger" and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant) and str(name.value).startswith("trio_mcp"):
                    found.setdefault(str(path.relative_to(PACKAGE)), set()).add(str(name.value))
    return found


def test_each_module_logs_to_the_logger_of_its_layer():
    names = logged()
    names.pop("log_records.py")
    for file, loggers in names.items():
        layer = SPECIAL.get(file, file.partition("/")[0])
        assert loggers == {f"trio_mcp.{layer}"}, file
    used = {logger.removeprefix("trio_mcp.") for loggers in names.values() for logger in loggers}
    assert used == set(LAYERS)


def test_the_records_of_every_layer_are_cleaned(caplog):
    for layer in LAYERS:
        logger = logging.getLogger(f"trio_mcp.{layer}")
        assert any(isinstance(one, PrintableFilter) for one in logger.filters), layer
        logger.warning("the server says: %s", "a\x1b[2Jb")
    assert len(caplog.records) == len(LAYERS)
    assert "\x1b" not in caplog.text


def test_a_configuration_of_the_package_holds_for_all_its_layers(caplog):
    with caplog.at_level(logging.CRITICAL, logger="trio_mcp"):
        for layer in LAYERS:
            logging.getLogger(f"trio_mcp.{layer}").error("not shown")
    assert caplog.records == []
