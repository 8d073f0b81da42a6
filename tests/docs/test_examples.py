"""Every example in README.md and docs/ is run, and prints what the page says it prints.

The language and the first line of a fenced block decide its meaning:

- ```python is a complete program. It runs as `python -W error`, in an empty
  directory of its own, with an empty stdin, and must exit with status 0.
- A block of any language whose first line is a comment with a file name, such as
  `# server.py`, is that file. Later blocks of the page find it in their directory.
  A Python file runs too: `test_*.py` under pytest, any other as a program.
- ```text as the next block after a python block is what the program prints to stdout.
- ```console holds commands, each after a `$ `, and what they print to stdout and stderr.
  `...` on a line of its own stands for any lines, in both.
- ```sh is for a person to read; only its make targets are checked.
"""

from __future__ import annotations

import fnmatch
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Bearer,
    ClientCredentials,
    ClientSettings,
    Conflate,
    HttpSettings,
    Introspection,
    JwtVerifier,
    Lossless,
    MemoryTaskStore,
    OAuth,
    ServerSettings,
    TaskConfig,
    TaskSettings,
)

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"^```(\w*)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)")


@attrs.frozen
class Block:
    """One fenced block; `before` are the blocks above it on its page."""

    page: Path
    line: int
    language: str
    text: str
    before: Sequence[Block] = attrs.field(repr=False)
    after: Block | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The name of the file that the block is, or None."""
        found = FILE_NAME.fullmatch(self.text.partition("\n")[0])
        return None if found is None else found[1]

    @property
    def output(self) -> str | None:
        """The output of the program that the page shows, or None."""
        return self.after.text if self.after is not None and self.after.language == "text" else None

    def write_files(self, directory: Path) -> None:
        """Write the files of the blocks above this one, and its own."""
        for block in (*self.before, self):
            if block.file_name is not None:
                (directory / block.file_name).write_text(block.text)


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text()
    blocks: list[Block] = []
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        block = Block(page, line, found[1], found[2], list(blocks))
        if blocks:
            blocks[-1] = attrs.evolve(blocks[-1], after=block)
        blocks.append(block)
    return blocks


# A reporter yields more often on a busy machine than on an idle one, and then sends more updates.
UNHURRIED = "from trio_mcp.progress import reporter\nreporter.YIELD_SECONDS = 60\n"

BLOCKS = [block for page in PAGES for block in read_blocks(page)]


def blocks_in(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


@pytest.mark.parametrize("block", blocks_in("python"), ids=str)
def test_a_python_block_prints_what_the_page_says(block: Block, tmp_path: Path) -> None:
    block.write_files(tmp_path)
    name = block.file_name
    if name is None:
        name = "example.py"
        (tmp_path / name).write_text(block.text)
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if name.startswith("test_") else []
    unhurried = tmp_path / "unhurried"
    unhurried.mkdir()
    (unhurried / "sitecustomize.py").write_text(UNHURRIED)
    path = os.pathsep.join([str(unhurried), str(ROOT)])
    command = [sys.executable, "-W", "error", *options, name]
    done = run(command, tmp_path, subprocess.PIPE, PYTHONPATH=path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    if block.output is not None:
        check_output(done.stdout, block.output)


@pytest.mark.parametrize("block", blocks_in("console"), ids=str)
def test_a_console_block_prints_what_the_page_says(block: Block, tmp_path: Path) -> None:
    block.write_files(tmp_path)
    for command, output in read_commands(block.text):
        done = run(["sh", "-c", command], tmp_path, subprocess.STDOUT)
        check_output(done.stdout, output)


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for block in blocks_in("sh"):
        for target in re.findall(r"^make ([\w-]+)", block.text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{block}: no target {target}"


def test_every_fence_is_understood() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(BLOCKS), "a fence is not closed"
    for block in blocks_in("text"):
        assert block.before, f"{block}: output of nothing"
        assert block.before[-1].language == "python", f"{block}: output of no program"


@pytest.mark.parametrize(
    "settings",
    [
        Conflate,
        Lossless,
        ServerSettings,
        ClientSettings,
        TaskConfig,
        TaskSettings,
        MemoryTaskStore,
        HttpSettings,
    ],
)
def test_every_setting_is_in_the_table_with_its_default(settings: type) -> None:
    rows = read_settings(settings)
    assert [name for name, _ in rows] == list(inspect.signature(settings).parameters)
    made = settings()
    for name, default in rows:
        check_default(default, getattr(made, name))


@pytest.mark.parametrize("options", [Bearer, JwtVerifier, Introspection, OAuth, ClientCredentials])
def test_every_option_of_authorization_is_in_the_table_with_its_default(options: type) -> None:
    rows = read_settings(options)
    parameters = inspect.signature(options).parameters
    assert [name for name, _ in rows] == list(parameters)
    for name, default in rows:
        value = parameters[name].default
        assert (default == "needed") == (value is inspect.Parameter.empty)
        check_default(default, value)


def read_settings(settings: type) -> list[tuple[str, str]]:
    """The names and the defaults of the rows about these settings."""
    text = (ROOT / "docs" / "settings.md").read_text()
    return re.findall(rf"^\| `{settings.__name__}\.(\w+)` \| (.+?) \|", text, re.MULTILINE)


def check_default(default: str, value: object) -> None:
    """Numbers, texts and truth values are written as they are, and others explained."""
    if isinstance(value, bool):
        assert default == f"`{value}`"
    elif isinstance(value, str):
        assert default == f'`"{value}"`'
    elif isinstance(value, (int, float)):
        assert default == f"{value:,g}" or default == f"{value:,}"


def run(
    command: Sequence[str], directory: Path, stderr: int, **variables: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "PATH": path, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONWARNINGS": "", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def read_commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, and its output."""
    first, *rest = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not first, "a console block begins with a command"
    for part in rest:
        command, _, output = part.partition("\n")
        yield command, output


def check_output(printed: str, expected: str) -> None:
    """Compare line by line, without trailing blanks; `...` stands for any lines."""
    lines, wanted = (strip_lines(text) for text in (printed, expected))
    if "..." not in wanted:
        assert lines == wanted
        return
    # Lines may contain fnmatch's wildcards, so everything but `...` is escaped.
    pattern = "\n".join("*" if line == "..." else re.sub(r"([*?[])", r"[\1]", line) for line in wanted)
    assert fnmatch.fnmatchcase("\n".join(lines), pattern), f"{printed}\nis not\n{expected}"


def strip_lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").splitlines()]
