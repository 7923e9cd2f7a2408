"""The engine's peers at their own work, on the catalogue and tasks given on standard input; run in an environment of their own.

Each peer is handed the same fresh catalogue in place of its own, so that size and exactness compare.
Prints one JSON object: peer → seconds and answers.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

logging.disable(logging.CRITICAL)


def best(run: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    seconds, answer = 1e9, None
    for _ in range(rounds):
        begun = time.process_time()
        answer = run()
        seconds = min(seconds, time.process_time() - begun)
    return seconds, answer


def statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    body = policy["Statement"]
    return [body] if isinstance(body, dict) else body


def allows(policy: dict[str, Any]) -> list[list[str]]:
    """Return the actions of each Allow statement of an expanded policy, in lower case."""
    found = []
    for s in statements(policy):
        if s["Effect"] == "Allow":
            value = s.get("Action", [])
            found.append(sorted({a.lower() for a in ([value] if isinstance(value, str) else value)}))
    return found


def repokid(roles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Repokid's whole trim, and its guard for what the trimmed policies newly grant; the better of two."""
    from repokid.utils import permissions

    def trimmed(role: dict[str, Any]) -> dict[str, Any]:
        _, eligible = permissions.get_permissions_in_policy(role["policies"])
        used = [
            {"serviceNamespace": s, "lastAuthenticated": int(time.time() - 3 * 86_400) * 1000 if u else 0}
            for s, u in role["services"].items()
        ]
        gone = permissions.get_repoable_permissions(
            "1" * 12, role["name"], role["name"], eligible, used, {}, "A", 90, {}
        )
        made, _ = permissions.get_repoed_policy(role["policies"], gone)
        permissions.find_newly_added_permissions(role["policies"], made)
        return made

    answers = []
    for role in roles:
        seconds, made = best(lambda role=role: trimmed(role), 2)
        answers.append(
            {"seconds": seconds, "characters": [len(json.dumps(p, separators=(",", ":"))) for p in made.values()]}
        )
    return answers


def main() -> None:
    job = json.load(sys.stdin)
    catalogue: dict[str, list[str]] = job["catalogue"]
    every = {f"{s}:{n}" for s, names in catalogue.items() for n in names}
    low = {a.lower() for a in every}
    answers: dict[str, Any] = {"expand": {}, "compact": {}}

    import policyuniverse
    from policyuniverse import expander_minimizer

    policyuniverse.all_permissions = low
    expander_minimizer.all_permissions = low

    import policy_sentry.analysis.expand as sentry
    from policy_sentry.writing.minimize import minimize_statement_actions

    full = {s: [f"{s}:{n}" for n in names] for s, names in catalogue.items()}
    sentry.get_all_actions = lambda: every  # type: ignore[assignment]
    sentry.get_actions_for_service = lru_cache(lambda service_prefix: full.get(service_prefix.lower(), []))

    import parliament

    parliament.iam_definition[:] = [
        {"prefix": s, "privileges": [{"privilege": n} for n in names]} for s, names in catalogue.items()
    ]

    def by_parliament(policy: dict[str, Any]) -> dict[str, Any]:
        policy = copy.deepcopy(policy)
        for s in statements(policy):
            value = s.get("Action", [])
            s["Action"] = [
                f"{a['service']}:{a['action']}"
                for p in ([value] if isinstance(value, str) else value)
                for a in parliament.expand_action(p, raise_exceptions=False)
            ]
        return policy

    policies = job["policies"]
    for name, one, rounds in (
        ("policy_sentry", sentry.get_expanded_policy, 3),
        ("policyuniverse", expander_minimizer.expand_policy, 1),
        ("parliament", by_parliament, 1),
    ):
        with contextlib.redirect_stdout(io.StringIO()):
            seconds, expanded = best(lambda one=one: [one(p) for p in policies], rounds)
        answers["expand"][name] = {"seconds": seconds, "allows": [allows(p) for p in expanded]}

    def by_universe(wanted: list[str]) -> list[str]:
        return expander_minimizer.minimize_statement_actions({"Effect": "Allow", "Action": wanted})

    for name, shrink in (
        ("policy_sentry", lambda wanted: minimize_statement_actions(wanted, low)),
        ("policyuniverse", by_universe),
    ):
        times, outs = [], []
        with contextlib.redirect_stdout(io.StringIO()):
            for wanted in job["tasks"]:
                begun = time.process_time()
                outs.append(shrink(wanted))
                times.append(time.process_time() - begun)
        answers["compact"][name] = {"seconds": times, "patterns": outs}
    with contextlib.redirect_stdout(io.StringIO()):
        answers["trim"] = repokid(job["roles"])
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
