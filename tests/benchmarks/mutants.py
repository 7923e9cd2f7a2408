"""Mutation testing, shared by the benchmarks: break one place of a module, and see whether the tests notice."""

from __future__ import annotations

import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).parents[2]


class Mutator(ast.NodeTransformer):
    """Changes the place of the given number, or only lists places."""

    SWAP: ClassVar[dict[type, Callable[[], ast.AST]]] = {
        ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
        ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
        ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    }  # fmt: skip

    def __init__(self, number: int = -1) -> None:
        self.number = number
        self.places: list[str] = []

    def _here(self, node: ast.AST, what: str) -> bool:
        self.places.append(f"line {getattr(node, 'lineno', 0)}: {what}")
        return len(self.places) - 1 == self.number

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(each) for each in node.body]  # not the decorators: slots or not is no behaviour
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        # `zip(…, strict=True)` and its like guard against bugs that are not there.
        return node if node.arg == "strict" else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [self.visit(each) for each in node.body]
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.body = [self.visit(each) for each in node.body]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.Constant):
            return node  # a docstring
        self.generic_visit(node)
        return ast.Pass() if self._here(node, f"{ast.unparse(node)[:80]} → pass") else node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        self.generic_visit(node)
        return ast.Pass() if self._here(node, f"{ast.unparse(node)[:80]} → pass") else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        for i, op in enumerate(node.ops):
            if type(op) in self.SWAP and self._here(node, f"{ast.unparse(node)} → {self.SWAP[type(op)].__name__}"):
                node.ops[i] = self.SWAP[type(op)]()  # type: ignore[call-overload]
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if self._here(node, f"{ast.unparse(node)[:80]} → {self.SWAP[type(node.op)].__name__}"):
            node.op = self.SWAP[type(node.op)]()  # type: ignore[assignment]
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) in self.SWAP and self._here(
            node, f"{ast.unparse(node)[:80]} → {self.SWAP[type(node.op)].__name__}"
        ):
            node.op = self.SWAP[type(node.op)]()  # type: ignore[assignment]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and self._here(node, f"{ast.unparse(node)[:80]} → without not"):
            return node.operand
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            if self._here(node, f"{node.value} → {not node.value}"):
                return ast.copy_location(ast.Constant(not node.value), node)
        elif isinstance(node.value, int) and self._here(node, f"{node.value} → {node.value + 1}"):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        if self._here(node, f"if {ast.unparse(node.test)[:80]} → if True"):
            node.test = ast.Constant(True)
        if self._here(node, f"if {ast.unparse(node.test)[:80]} → if False"):
            node.test = ast.Constant(False)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        says_no = isinstance(node.value, ast.Constant) and not node.value.value
        if node.value is not None and not says_no and self._here(node, f"{ast.unparse(node)[:80]} → None"):
            node.value = ast.Constant(None)
        return node


def places(file: Path) -> list[str]:
    """Return what can be broken in a module, in order."""
    mutator = Mutator()
    mutator.visit(ast.parse(file.read_text(encoding="utf-8")))
    return mutator.places


def campaign(
    modules: Sequence[str],
    tests: Sequence[str],
    bring: Sequence[str],
    *,
    count: int,
    say: Callable[[str], None],
    seconds: float = 240,
) -> dict[str, int] | None:
    """Break `count` places of the modules, one at a time; say who survives, for a person to judge, and return the fates.

    Args:
        modules: paths of the modules from the root.
        tests: what to run for each, in this order until one fails.
        bring: folders and files that the tests need beside `bot`.
        count: how many places; 0 for every one.
        say: where to say it.
        seconds: how long the tests may take.

    None: the tests fail without a mutation already.
    """
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        ignore = shutil.ignore_patterns("__pycache__", "benchmarks")
        for each in ("bot", "tests/__init__.py", *bring):
            (base / each).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copy if (ROOT / each).is_file() else shutil.copytree
            copy(ROOT / each, base / each, **({} if copy is shutil.copy else {"ignore": ignore}))
        every = [(m, n, what) for m in modules for n, what in enumerate(places(base / m))]
        dice = random.Random(os.environ.get("REFINE_SEED", "1"))
        chosen = dice.sample(every, min(count or len(every), len(every)))
        if _fate(base, modules[0], -1, tests, seconds) != "survives":
            return None
        say(f"mutants: {len(chosen)} of {len(every)}")
        fates: Counter[str] = Counter()
        with ThreadPoolExecutor(int(os.environ.get("REFINE_WORKERS", "2"))) as pool:
            found = pool.map(lambda e: _fate(base, e[0], e[1], tests, seconds), chosen)
            for (module, _, what), fate in zip(chosen, found, strict=True):
                fates[fate] += 1
                if fate != "killed":
                    say(f"  {fate}: {module} {what}")
        return dict(fates)


def _fate(base: Path, module: str, number: int, tests: Sequence[str], seconds: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "tree"
        shutil.copytree(base, home)
        file = home / module
        tree = Mutator(number).visit(ast.parse(file.read_text(encoding="utf-8")))
        file.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
        command = [
            sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", "/dev/null",
            "-o", "asyncio_mode=auto", "--rootdir", str(home), *tests,
        ]  # fmt: skip
        env = {**os.environ, "PYTHONPATH": str(home), "REFINE_EXAMPLES": "20"}
        try:
            done = subprocess.run(
                command, cwd=home, env=env, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return "hangs"
        return "killed" if done.returncode else "survives"
