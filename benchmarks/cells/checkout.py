"""The versions of trio_mcp that are measured: a checkout each, with its package and its contestants.

Owns how a script of a checkout is started so that the script, and every process that it starts, imports
the package of the same checkout. Knows nothing of what is measured. Needs only the standard library.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

# An installed package runs from compiled files, and so does what is measured.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Command:
    """What starts a process: its arguments, its directory and its environment."""

    arguments: tuple[str | Path, ...]
    directory: Path | None = None
    environment: dict[str, str] = field(default_factory=lambda: ENVIRONMENT)

    def run(self) -> str:
        """Run it to its end; what it printed. Raises CalledProcessError if it failed."""
        done = subprocess.run(
            self.arguments,
            cwd=self.directory,
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout


@dataclass(frozen=True)
class Checkout:
    """A directory that holds `trio_mcp/` and `benchmarks/` of one version."""

    root: Path

    @cached_property
    def environment(self) -> dict[str, str]:
        """PYTHONPATH goes before what is installed, an editable install of another checkout included."""
        return {**ENVIRONMENT, "PYTHONPATH": str(self.root)}

    def find_script(self, name: str) -> Path:
        """The contestant's script of this name; a version keeps its scripts in folders of its own choice."""
        found = sorted((self.root / "benchmarks").rglob(name))
        if len(found) != 1:
            raise SystemExit(f"{len(found)} files below {self.root / 'benchmarks'} are named {name}, not one")
        return found[0]

    def run_script(self, name: str, *arguments: str | Path) -> Command:
        return self.run_python(self.find_script(name), *arguments)

    def run_python(self, *arguments: str | Path) -> Command:
        # `python -c` looks into the directory before PYTHONPATH.
        return Command((sys.executable, *arguments), self.root, self.environment)

    def compile(self) -> None:
        """Compile all modules and check that the package of this checkout is the one that is imported."""
        self.run_python("-m", "compileall", "-q", "trio_mcp", "benchmarks").run()
        imported = self.run_python("-c", "import trio_mcp; print(trio_mcp.__file__)").run().strip()
        if not Path(imported).is_relative_to(self.root):
            raise SystemExit(f"{imported} is imported in place of the package in {self.root}")


THIS = Checkout(Path(__file__).resolve().parents[2])
