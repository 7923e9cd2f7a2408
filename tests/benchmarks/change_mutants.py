"""Mutation testing of the rules and of what drives a change: `make bench NAME=change_mutants`, or one of the two:

python -m tests.benchmarks.change_mutants rules|drive|checks

REFINE_MUTANTS says how many places are broken (default: every one), REFINE_MOST how many seconds of the tests each
meets (default: all).
"""

from __future__ import annotations

import json
import os
import sys

from tests.benchmarks.mutants import campaign

BRING = (
    "handlers", "templates", "sandbox", "tests/store", "tests/policy", "tests/lives.py", "tests/postgres.py",
    "tests/torture.py", "tests/benchmarks",  # the processes that a test starts look for the module that runs them all
)  # fmt: skip
PARTS = {
    "rules": ("bot/rules.py", (("tests/test_rules.py", "tests/test_rules_random.py"), ("tests/test_drive.py",))),
    "drive": ("bot/flows/drive.py", (("tests/test_drive.py", "tests/test_give_back.py"), ("tests/test_torture.py",))),
    "checks": ("bot/flows/checks.py", (("tests/test_drive.py",),)),
}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    results: dict[str, dict[str, int] | None] = {}
    for part in sys.argv[1:] or list(PARTS):
        module, stages = PARTS[part]
        say(f"== {module}")
        results[part] = campaign(
            [module],
            stages,
            BRING,
            count=int(os.environ.get("REFINE_MUTANTS", "0")),
            say=say,
            seconds=600,
            most=float(os.environ.get("REFINE_MOST", "inf")),
        )
    print(json.dumps({"benchmark": "change_mutants", **results}))
    sys.exit(0 if all(r is not None for r in results.values()) else 1)


if __name__ == "__main__":
    main()
