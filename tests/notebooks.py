"""Notebooks executed as `nbdev_test` does, each in a process of its own.

The processes are forked from one that has imported the large packages, so that a hundred notebooks do not import them
again. A `#| test` cell has a test of its own, made of the same lines: here it is left out, where that makes no
difference.
"""

import ast
import multiprocessing
import multiprocessing.forkserver
import os
import symtable
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

SKIPPED = ["slow", "gpu", "lm"]
IMPORTED = [
    "nbdev.test",
    "fastcore.test",
    "torch",
    "scipy.optimize",
    "pandas",
    "seaborn",
    "safetensors.torch",
    "jaxtyping",
]


def in_order(body: list) -> Iterator[ast.stmt]:
    "Statements in the order in which they run, those of blocks and branches among them."
    for s in body:
        blocks = [x for part in ("body", "handlers", "orelse", "finalbody") for x in getattr(s, part, [])]
        if not blocks or isinstance(s, (ast.FunctionDef, ast.ClassDef)):
            yield s
            continue
        heads = [(i.optional_vars, i.context_expr) for i in getattr(s, "items", [])]
        heads += [(getattr(s, "target", None), e) for part in ("iter", "test", "type") if (e := getattr(s, part, None))]
        for to, value in heads:
            yield ast.Assign(targets=[to], value=value, lineno=0) if to else ast.Expr(value)
        yield from in_order(blocks)


def names(source: str) -> tuple[set[str], set[str]]:
    "What a cell reads of what cells before it have left, and the names that it leaves."
    reads, leaves = set(), set()
    for s in in_order(ast.parse(source).body):
        tables = [top := symtable.symtable(ast.unparse(s), "cell", "exec")]
        for t in tables:
            tables += t.get_children()  # functions, lambdas, comprehensions
        here = {
            n.get_name() for t in tables for n in t.get_symbols() if n.is_referenced() and (t is top or n.is_global())
        }
        if isinstance(s, ast.AugAssign):
            here |= {n.id for n in ast.walk(s.target) if isinstance(n, ast.Name)}
        reads |= here - leaves
        leaves |= {n.get_name() for n in top.get_symbols() if n.is_assigned() or n.is_imported()}
    return reads, leaves


def rebound(source: str, defined: set[str]) -> bool:
    "Whether a cell gives another value to a name that functions of the module may read. (An import is no other value.)"
    top = symtable.symtable(source, "cell", "exec")
    return any(n.is_assigned() and not n.is_imported() and n.get_name() in defined for n in top.get_symbols())


def tested_elsewhere(cells: list[tuple[set, str]]) -> list[int]:  # (directives, source) of code cells in, places out
    """Test cells that make no difference here: they see what their test sees, and leave nothing that is read later.

    What a test sees are names of `#| setup` and exported cells. A cell that sees a name that another cell has changed
    runs here too, for it may fail where its test does not; so does one that changes a name of the module.
    """
    known, free, changed = [names(source) for _, source in cells], [], set()
    module = [leaves for (flags, _), (_, leaves) in zip(cells, known) if flags & {"export", "exporti", "setup"}]
    defined = set().union(*module)
    for k, ((flags, _), (reads, leaves)) in enumerate(zip(cells, known)):
        if "test" in flags and not reads & changed and not rebound(cells[k][1], defined):
            free.append(k)
        changed = changed - leaves if flags & {"export", "exporti", "setup"} else changed | leaves
    found, needed = [], set()
    for k in reversed(range(len(cells))):
        reads, leaves = known[k]
        if k in free and not leaves & needed:
            found.append(k)
        else:
            needed = needed - leaves | reads
    return found


def processed(path: Path, **how):
    "A notebook as nbdev reads it, cells that are tested elsewhere marked as not to be evaluated."
    from nbdev.process import NBProcessor

    found = NBProcessor(path, **how)
    code = [c for c in found.nb.cells if c.cell_type == "code" and not set(SKIPPED) & set(c.directives_)]
    for k in tested_elsewhere([(set(c.directives_), c.source) for c in code]):
        code[k].directives_["eval:"] = ["false"]
    return found


def execute(notebook: Path, said: Path):
    "Run the cells in this process; what they say goes to the file `said`. Exits with 1 if one fails."
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(out, stream)
    import nbdev.test

    with mock.patch.object(nbdev.test, "NBProcessor", processed):
        passed, _ = nbdev.test.test_nb(notebook, SKIPPED)
    sys.exit(0 if passed else 1)


def run(notebook: Path, said: Path, limit: float = 900):
    "The exit code of a process that executes the notebook, None if it takes more than `limit` seconds."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=execute, args=(notebook, said))
    with mock.patch.dict(os.environ, MPLBACKEND="agg"):  # of the process that they are forked from
        process.start()
    process.join(limit)
    code = process.exitcode
    if code is None:
        process.kill()
    return code
