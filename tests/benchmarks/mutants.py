"""Mutation testing, shared by the benchmarks: break one place of a module, and see whether the tests notice.

The tests of a mutant run in a fork of this process, which has every library already, and stop at the first failure.
Only those run that execute the broken statement, and those that noticed the most mutants in the least time come first.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, ClassVar, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
# Tests failed, or could not be collected: the mutant was noticed. Any other end is the campaign's own fault.
ENDS = {
    int(pytest.ExitCode.OK): "survives",
    int(pytest.ExitCode.TESTS_FAILED): "killed",
    int(pytest.ExitCode.INTERRUPTED): "killed",
}
OURS = {"bot", "handlers", "sandbox", "tests", "conftest"}
# Few examples, always the same ones, and no search for the smallest that fails.
CONFTEST = """
from hypothesis import Phase, settings
settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None)
settings.load_profile("mutants")
"""


class Mutator(ast.NodeTransformer):
    """Changes the place of the given number, or only lists places."""

    SWAP: ClassVar[dict[type, Callable[[], ast.AST]]] = {
        ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
        ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
        ast.Add: ast.Sub, ast.Sub: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    }  # fmt: skip

    def __init__(self, number: int = -1) -> None:
        self.number = number
        self.places: list[tuple[str, range | None]] = []
        self._lines = range(0)  # of the statement at hand
        self._in_function = False

    def _here(self, node: ast.AST, what: str) -> bool:
        self.places.append((f"line {getattr(node, 'lineno', 0)}: {what}", self._lines if self._in_function else None))
        return len(self.places) - 1 == self.number

    def visit(self, node: ast.AST) -> Any:
        if not isinstance(node, ast.stmt):
            return super().visit(node)
        outside = self._lines, self._in_function
        # Without the lines of the statements in it, and as they are before anything is changed.
        inner = [] if isinstance(node, ast.Match) else getattr(node, "body", [])
        last = inner[0].lineno - 1 if inner else node.end_lineno or node.lineno
        self._lines = range(node.lineno, max(last, node.lineno) + 1)
        self._in_function |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        changed = super().visit(node)
        self._lines, self._in_function = outside
        return changed

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


def places(file: Path) -> list[tuple[str, range | None]]:
    """Return what can be broken in a module, in order, and the lines that a test executes to notice; None: every test."""
    mutator = Mutator()
    mutator.visit(ast.parse(file.read_text(encoding="utf-8")))
    return mutator.places


class Mutant(NamedTuple):
    module: str  # its path from the root
    number: int  # of the place in it; -1: unchanged
    what: str
    lines: range | None = None  # of the broken statement; None: it is executed when the module is read


class Fate(NamedTuple):
    mutant: Mutant
    what: str  # "killed" | "survives" | "hangs"; "broken": pytest did not get as far as the tests
    reports: Mapping[str, tuple[bool, float]]  # by test: whether it failed, and its seconds
    said: str  # the end of what pytest said
    seen: Mapping[str, Mapping[str, list[int]]] = MappingProxyType({})  # by test and module, unchanged: its lines


def campaign(
    modules: Sequence[str],
    stages: Sequence[Sequence[str]],
    bring: Sequence[str],
    *,
    count: int,
    say: Callable[[str], None],
    seconds: int = 300,
    most: float = float("inf"),
) -> dict[str, int] | None:
    """Break `count` places of the modules, one at a time; say who survives, for a person to judge, and return the fates.

    Args:
        modules: paths of the modules from the root.
        stages: paths of the tests that are to notice, the quick ones first; who survives them meets the next.
        bring: folders and files that the tests need beside `bot` and themselves.
        count: how many places; 0 for every one.
        say: where to say it.
        seconds: how long the tests of one mutant may take, and those of none.
        most: seconds of tests that a mutant meets in a stage, the likeliest first; where that is not all, who is left
            may be noticed by the rest.

    None: the tests fail without a mutation already.
    """
    every_test = [test for tests in stages for test in tests]
    for each in every_test:
        importlib.import_module(each.removesuffix(".py").replace("/", "."))
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base"
        ignore = shutil.ignore_patterns("__pycache__", "benchmarks")
        for each in ("bot", "tests/__init__.py", *bring, *every_test):
            (base / each).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / each).is_file():
                shutil.copy(ROOT / each, base / each)
            else:
                shutil.copytree(ROOT / each, base / each, ignore=ignore)
        (base / "conftest.py").write_text(CONFTEST, encoding="utf-8")
        every = [Mutant(m, n, *place) for m in modules for n, place in enumerate(places(base / m))]
        dice = random.Random(os.environ.get("REFINE_SEED", "1"))
        left = dice.sample(every, min(count or len(every), len(every)))
        say(f"mutants: {len(left)} of {len(every)}")
        fates: Counter[str] = Counter()
        for tests in stages:
            found = _stage(base, left, modules, tests, seconds, most, say)
            if found is None:
                return None
            left = [f.mutant for f in found if f.what == "survives"]
            fates.update(f.what for f in found if f.what != "survives")
        if left:
            fates["survives"] = len(left)
        for mutant in sorted(left, key=lambda m: m[:2]):
            say(f"  left: {mutant.module} {mutant.what}")
        return dict(fates)


def _stage(
    base: Path,
    mutants: Sequence[Mutant],
    modules: Sequence[str],
    tests: Sequence[str],
    seconds: int,
    most: float,
    say: Callable[[str], None],
) -> list[Fate] | None:
    """Return what becomes of each mutant under these tests; None: they fail without one."""
    (plain,) = _fates(base, [Mutant(modules[0], -1, "")], modules, lambda _: dict.fromkeys(tests, 0.0), seconds)
    if plain.what != "survives":
        say(f"The tests fail without a mutation already ({plain.what}):\n{plain.said}")
        return None
    took = {test: spent for test, (_, spent) in plain.reports.items()}
    killers: dict[str, Counter[str]] = defaultdict(Counter)

    def worth(mutant: Mutant) -> dict[str, float]:
        """Return the tests that execute the broken statement, and which to run first: the largest number.

        Where none was seen to, all: another process may, or what kept its answer from before the first test.
        """
        lines = mutant.lines or ()
        there = [t for t in took if any(n in lines for n in plain.seen[t].get(mutant.module, ()))] or list(took)
        by = {t: (killers[mutant.module][t] + 0.1) / (took[t] + 0.01) for t in there}
        order = sorted(there, key=lambda t: -by[t])
        spent = itertools.accumulate((took[t] for t in order), initial=0.0)
        return {t: by[t] for t, before in zip(order, spent, strict=False) if before < most}

    say(f"  {len(mutants)} mutants meet {len(took)} tests of {sum(took.values()):.0f} s")
    found: list[Fate] = []
    for fate in _fates(base, mutants, modules, worth, seconds, took):
        found.append(fate)
        killers[fate.mutant.module].update(test for test, (failed, _) in fate.reports.items() if failed)
        if fate.what != "killed":
            say(f"  {fate.what}: {fate.mutant.module} {fate.mutant.what}")
        if fate.what == "broken":
            say(fate.said)
        if len(found) % 25 == 0:
            say(f"  {len(found)} so far: {dict(Counter(f.what for f in found))}")
    return found


def _fates(
    base: Path,
    mutants: Iterable[Mutant],
    modules: Sequence[str],
    worth: Callable[[Mutant], dict[str, float]],
    seconds: int,
    took: Mapping[str, float] = MappingProxyType({}),
) -> Iterator[Fate]:
    """Yield each mutant's fate, as soon as it is known."""
    waiting, running = iter(mutants), dict[int, tuple[Mutant, tempfile.TemporaryDirectory[str]]]()
    while True:
        while len(running) < int(os.environ.get("REFINE_WORKERS", "2")):
            mutant = next(waiting, None)
            if mutant is None:
                break
            folder = tempfile.TemporaryDirectory()
            running[_start(base, mutant, Path(folder.name), modules, worth(mutant), seconds, took)] = mutant, folder
        if not running:
            return
        pid, status = os.wait()
        if pid not in running:
            continue
        mutant, folder = running.pop(pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what its tests left behind
        told, said = Path(folder.name) / "reports", Path(folder.name) / "said"
        reports, seen = json.loads(told.read_text(encoding="utf-8")) if told.exists() else ({}, {})
        words = said.read_text(encoding="utf-8", errors="replace")[-3000:] if said.exists() else ""
        with contextlib.suppress(OSError):
            folder.cleanup()
        what = "hangs" if os.WIFSIGNALED(status) else ENDS.get(os.WEXITSTATUS(status), "broken")
        yield Fate(mutant, what, reports, words, seen)


def _start(
    base: Path,
    mutant: Mutant,
    folder: Path,
    modules: Sequence[str],
    tests: Mapping[str, float],
    seconds: int,
    took: Mapping[str, float],
) -> int:
    """Run the tests of a tree in a child that has the libraries already, but nothing of the tree; return its pid."""
    child = os.fork()
    if child:
        return child
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        os.setsid()
        signal.alarm(seconds)
        atexit._clear()  # the parent's folders are not ours to remove
        home = base  # unchanged, it leaves its compiled files to the others
        if mutant.number >= 0:
            home = shutil.copytree(base, folder / "tree")
            file = home / mutant.module
            tree = Mutator(mutant.number).visit(ast.parse(file.read_text(encoding="utf-8")))
            file.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
        for name in [n for n in sys.modules if n.partition(".")[0] in OURS]:
            del sys.modules[name]
        sys.path[:] = [str(home), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
        os.chdir(home)
        os.environ.update(REFINE_EXAMPLES="20", PYTHONPATH=str(home), TMPDIR=str(folder))
        tempfile.tempdir = None
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        watch = _Watch(tests, took)
        if mutant.number < 0:
            watch.look_at({str(home / module): module for module in modules})
        code = int(pytest.main([
            "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", "/dev/null", "-o", "asyncio_mode=auto",
            "--rootdir", str(home), "--confcutdir", str(home), *sorted({test.partition("::")[0] for test in tests}),
        ], plugins=[watch]))  # fmt: skip
        sys.settrace(None)
        found = {t: {m: sorted(lines) for m, lines in by.items()} for t, by in watch.seen.items()}
        (folder / "reports").write_text(json.dumps([watch.reports, found]), encoding="utf-8")
        atexit._run_exitfuncs()  # the database servers of the tests
    except BaseException:
        traceback.print_exc()
        code = int(pytest.ExitCode.INTERNAL_ERROR)
    finally:
        os._exit(code)


class _Watch:
    """Run these tests, those that are worth most first, and note what becomes of each and which lines it executes."""

    def __init__(self, tests: Mapping[str, float], took: Mapping[str, float]) -> None:
        self.tests = tests  # or their files: then all that is in them
        self.took = took
        self.reports: dict[str, tuple[bool, float]] = {}
        self.seen: dict[str, dict[str, set[int]]] = {}
        self._now: dict[str, set[int]] = defaultdict(set)

    def look_at(self, files: Mapping[str, str]) -> None:
        """Note the executed lines of these files, by the module's name; those of other processes are not seen."""

        def line(frame: FrameType, event: str, _: object) -> Any:
            self._now[files[frame.f_code.co_filename]].add(frame.f_lineno)
            return line

        def call(frame: FrameType, event: str, arg: object) -> Any:
            return line(frame, event, arg) if frame.f_code.co_filename in files else None

        threading.settrace(call)
        sys.settrace(call)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [i for i in items if i.nodeid in self.tests or i.nodeid.partition("::")[0] in self.tests]
        items.sort(key=lambda item: -self.tests.get(item.nodeid, 0))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        self._now = self.seen[item.nodeid] = defaultdict(set)
        if item.nodeid in self.took:
            signal.alarm(30 + 10 * int(self.took[item.nodeid]))  # a mutant that hangs does so in one test
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        failed, spent = self.reports.get(report.nodeid, (False, 0.0))
        self.reports[report.nodeid] = failed or report.failed, spent + report.duration
