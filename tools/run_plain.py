"""Run notebooks with nothing but the package: no Jupyter, none of the tools of development.

    python tools/run_plain.py nbs/index.ipynb nbs/tutorials/01_the_idea.ipynb

Who has installed saematch alone can follow these two. `.ci/run` tries it between the two commands of the README, when
nothing else is installed. Cells that take long or need a GPU or a language model are left out; what cells show is
made and thrown away.
"""

import ast
import json
import os
import re
import sys
from pathlib import Path

LEFT_OUT = re.compile(r"^#\|\s*(slow|gpu|lm)\b", re.M)


def cells(path: Path) -> list[str]:
    "The code of a notebook."
    content = json.loads(path.read_text(encoding="utf-8"))
    sources = ["".join(c["source"]) for c in content["cells"] if c["cell_type"] == "code"]
    return [s for s in sources if not LEFT_OUT.search(s)]


def shown(value: object) -> None:
    "Make what a notebook would show of a value."
    for name in ("_repr_html_", "_repr_markdown_", "__repr__"):
        if made := getattr(value, name, None):
            made()


def run(path: Path) -> None:
    "Run a notebook from top to bottom in its own folder. Raises what its cells raise."
    os.chdir(path.parent)
    space = {"__name__": "__main__"}
    for number, source in enumerate(cells(path), 1):
        body = ast.parse(source, f"{path.name}, code cell {number}").body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), f"{path.name}, code cell {number}", "exec"), space)
        if last:
            shown(eval(compile(ast.Expression(last.value), f"{path.name}, code cell {number}", "eval"), space))


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"
    for path in [Path(p).resolve() for p in sys.argv[1:]]:
        run(path)
        print(f"{path.name}: ran from top to bottom", file=sys.stderr)
