"""A checkout holds one version of trio_mcp: its package, and the contestants that use it.

Owns how a script of a checkout is started: the script, and every process that it starts in turn, imports the
package of the same checkout, whatever is installed. Knows nothing of what is measured. Needs only the
standard library.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

# An installed package runs from compiled files, so the measured one does too.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True)
class Command:
    """All that starts a process: its arguments, its directory and its environment."""

    arguments: tuple[str | Path, ...]
    directory: Path | None = None
    environment: dict[str, str] = field(default_factory=lambda: ENVIRONMENT)

    def run(self) -> str:
        """Run it to its end and return what it printed; raises CalledProcessError if it fails."""
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
        """Its PYTHONPATH precedes what is installed, such as an editable install of another checkout."""
        return {**ENVIRONMENT, "PYTHONPATH": str(self.root)}

    def find_script(self, name: str) -> Path:
        """The script of this name, in whatever folder of `benchmarks/` this version keeps it."""
        found = sorted((self.root / "benchmarks").rglob(name))
        if len(found) != 1:
            raise SystemExit(f"{len(found)} files below {self.root / 'benchmarks'} are named {name}, not one")
        return found[0]

    def has_script(self, name: str) -> bool:
        """Whether this version has a script of this name; an older one may lack it."""
        return any((self.root / "benchmarks").rglob(name))

    def run_script(self, name: str, *arguments: str | Path) -> Command:
        return self.run_python(self.find_script(name), *arguments)

    def run_python(self, *arguments: str | Path) -> Command:
        # `python -c` imports from the working directory before PYTHONPATH.
        return Command((sys.executable, *arguments), self.root, self.environment)

    def compile(self) -> None:
        """Compile all modules, and check that the package of this checkout is the one that gets imported."""
        self.run_python("-m", "compileall", "-q", "trio_mcp", "benchmarks").run()
        imported = self.run_python("-c", "import trio_mcp; print(trio_mcp.__file__)").run().strip()
        if not Path(imported).is_relative_to(self.root):
            raise SystemExit(f"{imported} is imported in place of the package in {self.root}")


THIS = Checkout(Path(__file__).resolve().parents[2])
