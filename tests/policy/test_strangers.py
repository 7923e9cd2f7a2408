"""What the catalogue does not know, though the report tells of its use or somebody asks to keep it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from bot.model import ActionUse, Evidence, Mode, PolicyKind, ServiceUse, Trim, Verdict
from tests.policy.judge import listed, statements
from tests.policy.world import NOW, SERVICES, policy, run

IDLE = tuple(ServiceUse(namespace=s) for s in SERVICES)
UNSEEN = ("lambda:InvokeFunctionUrl", "rds-db:*")
UNUSED, USED = ActionUse(action="Rest"), ActionUse(action="Act", last_accessed=NOW)


def answered(
    statement: dict[str, object], *services: ServiceUse, mode: Mode = Mode.SAFE, keep: tuple[str, ...] = ()
) -> Trim:
    """Trim one statement; the services that the catalogue knows are silent, but for those that are given."""
    body = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement, "Resource": "*"}]}
    named = {s.namespace for s in services}
    seen = (*services, *(s for s in IDLE if s.namespace not in named))
    report = Evidence(services=seen, made_at=NOW, role_created_at=NOW - timedelta(days=400))
    answer = run([policy(0, PolicyKind.CUSTOMER, json.dumps(body))], report, mode, keep=keep)
    assert answer is not None
    assert answer.proof.holds, answer.proof.problems
    return answer


def actions(answer: Trim) -> list[str]:
    """Return what the trimmed statement grants, but for what IAM never sees, which safe mode keeps of known services."""
    return [e for s in statements(answer.policies[0].text) for e in listed(s["Action"]) if e not in UNSEEN]


def verdicts(answer: Trim) -> dict[str, Verdict]:
    return {a.action: a.verdict for a in answer.actions if a.action.startswith("newsvc:")}


EVERYTHING = ({"Action": "*"}, {"Action": ["*:*", "s3:Get*"]}, {"NotAction": ["sqs:*", "s3:Get*"]})


@pytest.mark.parametrize("statement", EVERYTHING)
def test_a_service_in_use_that_the_catalogue_does_not_know_stays(statement: dict[str, object]) -> None:
    answer = answered(statement, ServiceUse(namespace="newsvc", last_accessed=NOW))
    assert actions(answer) == ["newsvc:*"]
    assert verdicts(answer) == {"newsvc:*": Verdict.UNTRACKED}


@pytest.mark.parametrize("statement", EVERYTHING)
def test_of_such_a_service_strict_mode_keeps_what_was_seen(statement: dict[str, object]) -> None:
    service = ServiceUse(namespace="newsvc", last_accessed=NOW, actions=(USED, UNUSED))
    answer = answered(statement, service, mode=Mode.STRICT)
    assert actions(answer) == ["newsvc:Act"]


@pytest.mark.parametrize("statement", [*EVERYTHING, {"Action": ["newsvc:*", "s3:*"]}])
def test_what_of_it_is_not_used_stays_where_the_rest_has_no_names(statement: dict[str, object]) -> None:
    """No list of names can leave out one action and keep those that nobody can name."""
    answer = answered(statement, ServiceUse(namespace="newsvc", last_accessed=NOW, actions=(USED, UNUSED)))
    assert actions(answer) == ["newsvc:*"]
    assert verdicts(answer) == {
        "newsvc:*": Verdict.UNTRACKED,
        "newsvc:Act": Verdict.USED,
        "newsvc:Rest": Verdict.UNKNOWN,
    }
    assert all(a.kept for a in answer.actions if a.action.startswith("newsvc:"))


def test_a_part_of_it_is_kept_as_it_was_written() -> None:
    service = ServiceUse(namespace="newsvc", last_accessed=NOW, actions=(USED, UNUSED))
    assert actions(answered({"Action": ["newsvc:R*", "s3:*"]}, service)) == ["newsvc:R*"]


def test_a_service_out_of_use_goes_though_the_catalogue_does_not_know_it() -> None:
    service = ServiceUse(namespace="newsvc", actions=(UNUSED,))
    answer = answered({"Action": "*"}, service, ServiceUse(namespace="sqs", last_accessed=NOW))
    assert verdicts(answer) == {"newsvc:*": Verdict.SERVICE_UNUSED, "newsvc:Rest": Verdict.UNUSED}
    assert actions(answer) == ["sqs:*"]


@pytest.mark.parametrize("asked", ["s3:NewThing", "S3:New*", "newsvc:Act", "newsvc:*", "newsvc:A*"])
@pytest.mark.parametrize("statement", [{"Action": "*"}, {"NotAction": "sqs:*"}, {"Action": ["s3:*", "newsvc:*"]}])
def test_what_is_to_be_kept_is_kept_though_the_catalogue_does_not_know_it(
    statement: dict[str, object], asked: str
) -> None:
    service, _, rest = asked.partition(":")
    answer = answered(statement, mode=Mode.STRICT, keep=(asked,))
    assert actions(answer) == [f"{service.lower()}:{rest}"]
    assert [a.verdict for a in answer.actions if a.kept] == [Verdict.PROTECTED]
    assert answer.warnings == ()


def test_what_is_to_be_kept_is_kept_in_the_form_in_which_it_is_granted() -> None:
    assert actions(answered({"Action": ["newsvc:A*", "s3:*"]}, mode=Mode.STRICT, keep=("newsvc:*",))) == ["newsvc:A*"]


@pytest.mark.parametrize(
    ("statement", "asked"),
    [
        ({"Action": "s3:Get*"}, "s3:*Frob"),
        ({"Action": "s3:Get*"}, "*:GetFrob*"),
        ({"NotAction": "s3:Put*"}, "s3:*Frob"),
    ],
)
def test_what_cannot_be_kept_is_said(statement: dict[str, object], asked: str) -> None:
    answer = answered(statement, mode=Mode.STRICT, keep=(asked,))
    assert answer.policies[0].text is None
    assert [w.code for w in answer.warnings] == ["nameless"]
    assert asked in answer.warnings[0].message


@pytest.mark.parametrize("asked", ["s3:PutFrob", "s3:PutObject", "sqs:*", "s3:Get*", "*:Get*"])
def test_what_is_not_granted_or_kept_by_name_needs_no_warning(asked: str) -> None:
    answer = answered({"Action": "s3:Get*"}, mode=Mode.STRICT, keep=(asked,))
    assert answer.warnings == ()
    assert {a.action for a in answer.actions if a.kept} == (
        {a.action for a in answer.actions} if "Get*" in asked else set()
    )


def test_what_a_notaction_leaves_of_a_service_that_nobody_knows_is_said_to_go() -> None:
    service = ServiceUse(namespace="newsvc", last_accessed=NOW, actions=(USED,))
    answer = answered({"NotAction": "newsvc:Delete*"}, service)
    assert actions(answer) == ["newsvc:Act"]
    assert [w.code for w in answer.warnings] == ["nameless"]
    assert "newsvc is in use" in answer.warnings[0].message
    assert answered({"NotAction": "newsvc:*"}, service).warnings == ()
    assert answered({"NotAction": "newsvc:Delete*"}, service, mode=Mode.STRICT).warnings == ()
