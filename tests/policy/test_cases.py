"""Named cases as data: cases/*.json. Somebody who knows IAM can add one without Python.

A case has `name`, `why`, `policies` (name → document, or the document's text), and where they matter `kinds`
(name → inline, customer, aws), `about` (name → more of the policy: attachments, version_age in days), `report`
(service → {"used": days ago or null, "actions": {name: days ago or null}}), `role_age` in days, `report_age` in hours,
`tracking` in days, `settings`, and `expected`: `documents` (policy → the document, "untouched" or null where it goes),
`verdicts` (action → "verdict, kept" or "verdict, dropped"), `outcomes`, `tiers`, `warnings` (all codes), `sensitive`,
`granted` (how many), `error` (part of the sentence).
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bot.errors import RefineError
from bot.model import ActionUse, Evidence, Mode, PolicyKind, Quotas, RolePolicy, ServiceUse, Trim, TrimSettings
from bot.policy import load_catalogue, size, trim

NOW = datetime(2026, 1, 31, tzinfo=UTC)
CASES = {
    f"{file.stem}: {case['name']}": case
    for file in sorted((Path(__file__).parent / "cases").glob("*.json"))
    for case in json.loads(file.read_text(encoding="utf-8"))
}


def ago(days: float | None) -> datetime | None:
    return None if days is None else NOW - timedelta(days=days)


def policies(case: dict[str, Any]) -> list[RolePolicy]:
    found = []
    for name, document in case["policies"].items():
        kind = PolicyKind(case.get("kinds", {}).get(name, "customer"))
        about = dict(case.get("about", {}).get(name, {}))
        age = about.pop("version_age", None)
        found.append(
            RolePolicy(
                name=name,
                kind=kind,
                text=document if isinstance(document, str) else json.dumps(document, indent=1),
                arn="" if kind is PolicyKind.INLINE else f"arn:aws:iam::111122223333:policy/{name}",
                version_created_at=ago(age),
                **about,
            )
        )
    return found


def evidence(case: dict[str, Any]) -> Evidence:
    return Evidence(
        services=tuple(
            ServiceUse(
                namespace=namespace,
                last_accessed=ago(service.get("used")),
                actions=tuple(
                    ActionUse(action=a, last_accessed=ago(days), region="eu-west-1" if days is not None else "")
                    for a, days in service.get("actions", {}).items()
                ),
            )
            for namespace, service in case.get("report", {}).items()
        ),
        made_at=NOW - timedelta(hours=case.get("report_age", 1)),
        tracking_days=case.get("tracking", 400),
        role_arn="arn:aws:iam::111122223333:role/app/App",
        role_created_at=ago(case.get("role_age", 1000)),
    )


def settings(case: dict[str, Any]) -> TrimSettings:
    given = dict(case.get("settings", {}))
    return TrimSettings(
        mode=Mode(given.pop("mode", "safe")),
        quotas=Quotas(**given.pop("quotas", {})),
        now=NOW,
        **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()},
    )


def answer(case: dict[str, Any]) -> Trim:
    return trim(policies(case), evidence(case), load_catalogue(), settings(case))


@cache
def answered(name: str) -> Trim:
    """Return the answer to a named case, for all who look at it."""
    return answer(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    expected = case["expected"]
    if "error" in expected:
        with pytest.raises(RefineError) as caught:
            answered(name)
        assert expected["error"] in caught.value.say()
        return
    got = answered(name)
    assert got.proof.holds, got.proof.problems
    written = {o.name: o for o in got.policies}
    for policy, document in expected.get("documents", {}).items():
        outcome = written[policy]
        if document == "untouched":
            assert outcome.outcome.value == "unchanged"
            assert outcome.text == next(p.text for p in policies(case) if p.key == outcome.source)
        elif document is None:
            assert outcome.text is None
            assert outcome.outcome.value == "removed"
        else:
            assert outcome.text is not None
            # As text, so that the order of keys and the forms count too.
            assert outcome.text == json.dumps(document, indent=2, ensure_ascii=False)
            assert outcome.characters == size(outcome.text)
    verdicts = {a.action: f"{a.verdict.value}, {'kept' if a.kept else 'dropped'}" for a in got.actions}
    assert {a: verdicts.get(a) for a in expected.get("verdicts", {})} == expected.get("verdicts", {})
    if "outcomes" in expected:
        assert {o.name: o.outcome.value for o in got.policies} == expected["outcomes"]
    if "tiers" in expected:
        assert {o.name: o.tier for o in got.policies} == expected["tiers"]
    if "warnings" in expected:
        assert [w.code for w in got.warnings] == expected["warnings"]
    if "sensitive" in expected:
        assert sorted(a.action for a in got.actions if a.sensitive) == expected["sensitive"]
    if "granted" in expected:
        assert got.granted == expected["granted"]


def test_every_case_says_why_and_expects_something() -> None:
    assert all(len(case["why"]) > 5 and case["expected"] for case in CASES.values())


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize("other", [None, 200])
def test_a_service_that_the_report_names_twice_has_the_latest_of_its_times(other: int | None, turn: int) -> None:
    case = CASES["verdicts: an untracked action of a used service is kept in safe mode"]
    (once,) = evidence(case).services
    again = replace(once, namespace=once.namespace.upper(), last_accessed=ago(other), actions=())
    twice = replace(evidence(case), services=(once, again)[::turn])
    assert trim(policies(case), twice, load_catalogue(), settings(case)).actions == answer(case).actions


@pytest.mark.parametrize("turn", [1, -1])
def test_an_action_that_the_report_names_twice_has_the_later_of_its_times(turn: int) -> None:
    case = CASES["verdicts: used inside the window is kept in both modes"]
    (once,) = evidence(case).services
    (create, *rest) = once.actions
    actions = (*(create, replace(create, action=create.action.upper(), last_accessed=None))[::turn], *rest)
    twice = replace(evidence(case), services=(replace(once, actions=actions),))
    assert trim(policies(case), twice, load_catalogue(), settings(case)).actions == answer(case).actions
