"""A report of a run, from the lines that it wrote: `python write_report.py LINES [LINES ...] --out DIR`.

Writes `report.md` with the tables, and beside it the plots of `report/plots.py`, which need the extra
`bench`. The cells of several runs are put together. A cell that is in two of them is taken from the later
run, and the facts are those of the first.
"""

import argparse
import sys
from pathlib import Path

from report.page import read_runs, write_report


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lines", type=Path, nargs="+", metavar="LINES")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--format", choices=["svg", "png"], default="svg", help="of the plots")
    options = parser.parse_args()
    try:
        from report.plots import draw_all
    except ImportError as error:
        print(f"the plots need the extra bench (pip install 'trio-mcp[bench]'): {error}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    facts, cells = read_runs(options.lines)
    plots = draw_all(cells, options.out, options.format)
    print(write_report(facts, cells, plots, options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
