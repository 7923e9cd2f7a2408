"""Giving back: exactly what is named, where and as it was granted before, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bot.errors import NotAllowedError, StaleError, TooBigError
from bot.model import (
    ActionUse,
    CaseId,
    ChangeId,
    Evidence,
    GiveBack,
    Mode,
    Outcome,
    PolicyKind,
    PolicyOutcome,
    Proposal,
    ProposalId,
    Quotas,
    Role,
    RolePolicy,
    ServiceUse,
    Trim,
    TrimSettings,
    UserId,
    Verdict,
)
from bot.policy import size, trim
from bot.policy.give import give, prove
from tests.policy.judge import allowed, statements
from tests.policy.world import ALL, CATALOGUE, NOW, examples, reports, roles

ARN = "arn:aws:iam::111122223333:role/R"
CHANGE = ChangeId("c1-1-apply")


def role_of(policies: Sequence[RolePolicy], quotas: Quotas = Quotas()) -> Role:  # noqa: B008  # frozen
    return Role(
        arn=ARN,
        name="R",
        account="111122223333",
        path="/",
        role_id="AROA1",
        created_at=NOW,
        trust_text="{}",
        policies=tuple(policies),
        read_at=NOW,
        quotas=quotas,
    )


def proposal_of(role: Role, evidence: Evidence, made: Trim, back: GiveBack | None = None) -> Proposal:
    return Proposal(
        id=ProposalId("c1-1"),
        case_id=CaseId("c1"),
        role=role,
        evidence=evidence,
        settings=TrimSettings(mode=Mode.STRICT, now=NOW),
        trim=made,
        proposed_by=UserId("U1"),
        proposed_at=NOW,
        give_back=back,
    )


def trimmed(policies: Sequence[RolePolicy], evidence: Evidence, quotas: Quotas = Quotas()) -> Proposal:  # noqa: B008
    settings = TrimSettings(mode=Mode.STRICT, now=NOW, quotas=quotas)
    return proposal_of(role_of(policies, quotas), evidence, trim(policies, evidence, CATALOGUE, settings))


def applied(made: Proposal) -> Role:
    """Return the role as the writes of a proposal leave it: a copy where the old policy is not the role's own."""
    live: list[RolePolicy] = []
    old = {p.key: p for p in made.role.policies}
    for each in made.trim.policies:
        if each.text is None:
            continue
        was = old.get(each.source)
        if was is not None and was.name == each.name and was.attachments == 1:
            live.append(replace(was, text=each.text))
        elif each.kind is PolicyKind.INLINE or (was is None and each.name == each.source.rsplit("/", 1)[-1]):
            arn = "" if each.kind is PolicyKind.INLINE else each.source
            live.append(RolePolicy(name=each.name, kind=each.kind, text=each.text, arn=arn))
        elif each.outcome is Outcome.UNCHANGED or (was is not None and was.text == each.text):
            live.append(was or pytest.fail("an unchanged policy that was not there"))
        else:
            arn = f"arn:aws:iam::111122223333:policy/refine/{each.name}"
            live.append(RolePolicy(name=each.name, kind=PolicyKind.CUSTOMER, text=each.text, arn=arn))
    assert len({p.key for p in live}) == len(live)
    return replace(made.role, policies=tuple(live))


def grants(role: Role) -> set[tuple[str, str]]:
    """Return the actions of the few services that are allowed, each with the scope that it is allowed in."""
    return set().union(*(allowed(p.text, ALL) for p in role.policies))


def back(last: Proposal, live: Role, asked: Sequence[str], snapshot: Role) -> Proposal:
    made, given_back = give(last, CHANGE, snapshot, live, asked, CATALOGUE)
    assert made.proof.holds, made.proof.problems
    return proposal_of(live, last.evidence, made, given_back)


@examples()
@given(policies=roles(), report=reports(), data=st.data())
def test_exactly_what_is_named_comes_back_in_the_statements_that_granted_it(
    policies: list[RolePolicy], report: Evidence, data: st.DataObject
) -> None:
    """Twice in a row, the second time out of what the first left, and at last all of it."""
    try:
        first = trimmed(policies, report)
    except TooBigError:
        assume(False)
    last, live, snapshot = first, applied(first), first.role
    for _ in range(2):
        gone = [a.action for a in last.trim.actions if not a.kept]
        if not gone:
            return
        asked = data.draw(st.lists(st.sampled_from(gone), min_size=1, max_size=4, unique=True))
        try:
            made = back(last, live, asked, snapshot)
        except TooBigError:
            return
        given = set(made.give_back.actions if made.give_back else ())
        assert {a.lower() for a in asked} <= {a.lower() for a in given}
        more = {(action, scope) for action, scope in grants(snapshot) if action in given}
        assert grants(applied(made)) == grants(live) | more
        last, live = made, applied(made)
    gone = [a.action for a in last.trim.actions if not a.kept]
    if gone:
        try:
            made = back(last, live, gone, snapshot)
        except TooBigError:
            return
        assert grants(applied(made)) == grants(snapshot)


# -------------------- cases


def document(*body: Mapping[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": body})


BUCKET = {
    "Sid": "Bucket",
    "Effect": "Allow",
    "Action": ["s3:GetObject", "s3:PutObject"],
    "Resource": "arn:aws:s3:::b/*",
    "Condition": {"Bool": {"aws:SecureTransport": "true"}},
}
QUEUE = {"Sid": "Queue", "Effect": "Allow", "Action": "sqs:*", "Resource": "*"}
NO = {"Sid": "No", "Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::secret/*"}
IDLE = Evidence(services=(), made_at=NOW, role_arn=ARN)


def managed(name: str, text: str, kind: PolicyKind = PolicyKind.CUSTOMER, attachments: int = 1) -> RolePolicy:
    owner = "aws" if kind is PolicyKind.AWS else "111122223333"
    return RolePolicy(
        name=name, kind=kind, text=text, arn=f"arn:aws:iam::{owner}:policy/{name}", attachments=attachments
    )


def inline(name: str, text: str) -> RolePolicy:
    return RolePolicy(name=name, kind=PolicyKind.INLINE, text=text)


def outcomes(made: Proposal) -> list[tuple[str, str, Outcome]]:
    return [(o.source.rsplit("/", 1)[-1], o.name, o.outcome) for o in made.trim.policies]


def test_an_action_comes_back_with_its_resource_and_its_condition() -> None:
    first = trimmed([inline("P", document(BUCKET, NO))], IDLE)
    made = back(first, applied(first), ["s3:PutObject"], first.role)
    (only,) = made.trim.policies
    assert statements(only.text) == [{**BUCKET, "Action": ["s3:PutObject"]}, NO]
    verdicts = {a.action: a for a in made.trim.actions}
    assert (verdicts["s3:PutObject"].verdict, verdicts["s3:PutObject"].kept) == (Verdict.PROTECTED, True)
    assert verdicts["s3:PutObject"].reason.startswith("Given back by hand; it was removed for this reason: ")
    assert not verdicts["s3:GetObject"].kept


def test_a_whole_service_comes_back_as_it_was_written() -> None:
    first = trimmed([inline("P", document(BUCKET, QUEUE))], IDLE)
    made = back(first, applied(first), ["sqs:*"], first.role)
    assert made.give_back is not None
    assert "sqs:SendMessage" in made.give_back.actions
    assert statements(made.trim.policies[0].text) == [QUEUE]
    counts = {s.namespace: (s.granted, s.kept) for s in made.trim.services}
    assert (counts["sqs"][1], counts["s3"]) == (counts["sqs"][0], (2, 0))


def test_a_pattern_of_an_unknown_service_names_what_it_brings() -> None:
    """Nobody can give `newsvc:Act*` back without `newsvc:ActMore`, so the proposal says so."""
    seen = tuple(ActionUse(action=name) for name in ("Act", "ActMore"))
    report = Evidence(services=(ServiceUse(namespace="newsvc", actions=seen),), made_at=NOW, role_arn=ARN)
    first = trimmed([inline("P", document({"Effect": "Allow", "Action": "newsvc:Act*", "Resource": "*"}))], report)
    made = back(first, applied(first), ["newsvc:Act*"], first.role)
    assert made.give_back is not None
    assert made.give_back.actions == ("newsvc:Act", "newsvc:Act*", "newsvc:ActMore")


def test_a_pattern_of_an_unknown_service_brings_nothing_that_it_does_not_match() -> None:
    text = document(QUEUE, {"Effect": "Allow", "Action": ["newsvc:Act*", "newsvc:Other*"], "Resource": "*"})
    first = trimmed([inline("P", text)], IDLE)
    made = back(first, applied(first), ["newsvc:Act*"], first.role)
    assert made.give_back is not None
    assert made.give_back.actions == ("newsvc:Act*",)


def test_a_permission_that_a_given_action_needs_is_not_given_unasked() -> None:
    """The engine would keep `iam:PassRole` beside `lambda:CreateFunction`: a give-back gives what is named."""
    text = document(
        {"Effect": "Allow", "Action": ["lambda:CreateFunction", "iam:PassRole", "sqs:SendMessage"], "Resource": "*"}
    )
    first = trimmed([inline("P", text)], IDLE)
    made = back(first, applied(first), ["lambda:CreateFunction"], first.role)
    assert statements(made.trim.policies[0].text)[0]["Action"] == ["lambda:CreateFunction"]
    (warning,) = made.trim.warnings
    assert (warning.code, warning.message) == (
        "needed",
        "lambda:CreateFunction comes back, which takes a role, and iam:PassRole stays removed: it may be missed too.",
    )
    both = back(first, applied(first), ["lambda:CreateFunction", "iam:PassRole"], first.role)
    assert both.trim.warnings == ()


def test_a_policy_that_was_detached_is_attached_again_where_all_of_it_comes_back() -> None:
    theirs = managed("Theirs", document(QUEUE), PolicyKind.AWS)
    first = trimmed([theirs], IDLE)
    made = back(first, applied(first), ["sqs:*"], first.role)
    assert outcomes(made) == [("Theirs", "Theirs", Outcome.GIVEN_BACK)]
    assert (made.trim.policies[0].text, made.trim.policies[0].kind) == (theirs.text, PolicyKind.AWS)


def test_of_a_detached_policy_a_part_comes_back_as_a_copy() -> None:
    first = trimmed([managed("Own", document(QUEUE))], IDLE)
    made = back(first, applied(first), ["sqs:SendMessage"], first.role)
    assert outcomes(made) == [("Own", "Refine-R-Own", Outcome.GIVEN_BACK)]
    assert statements(made.trim.policies[0].text) == [{**QUEUE, "Action": "sqs:SendMessage"}]


def test_what_others_use_by_now_stays_as_it_is_and_a_policy_beside_it_has_the_actions() -> None:
    own = managed("Own", document(BUCKET, NO))
    first = trimmed([own], IDLE)
    live = applied(first)
    live = replace(live, policies=(replace(live.policies[0], attachments=2),))
    made = back(first, live, ["s3:GetObject"], first.role)
    assert outcomes(made) == [("Own", "Own", Outcome.GIVEN_BACK), ("Own", "Refine-R-Own", Outcome.GIVEN_BACK)]
    assert made.trim.policies[0].text == live.policies[0].text


def test_a_policy_that_somebody_edited_since_is_not_given_more() -> None:
    first = trimmed([inline("P", document(BUCKET, NO)), inline("Q", document(QUEUE))], IDLE)
    live = applied(first)
    edited = replace(live, policies=(inline("P", document(QUEUE)),))
    with pytest.raises(StaleError, match="P was edited since the change"):
        give(first, CHANGE, first.role, edited, ["s3:GetObject"], CATALOGUE)
    with pytest.raises(StaleError, match="P was taken away since the change"):
        give(first, CHANGE, first.role, replace(live, policies=()), ["s3:GetObject"], CATALOGUE)
    again = replace(live, policies=(*live.policies, first.role.policies[1]))
    with pytest.raises(StaleError, match="The role has Q again"):
        give(first, CHANGE, first.role, again, ["sqs:SendMessage"], CATALOGUE)


def test_what_others_added_to_the_role_since_stays_and_is_no_reason_to_refuse() -> None:
    first = trimmed([inline("P", document(BUCKET, NO))], IDLE)
    added = inline("Theirs", document({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}))
    live = applied(first)
    made = back(first, replace(live, policies=(*live.policies, added)), ["s3:PutObject"], first.role)
    assert outcomes(made) == [("P", "P", Outcome.GIVEN_BACK), ("Theirs", "Theirs", Outcome.UNCHANGED)]
    assert statements(made.trim.policies[0].text)[0] == {**BUCKET, "Action": ["s3:PutObject"]}


def test_only_what_was_taken_away_can_be_given_back() -> None:
    first = trimmed([inline("P", document(BUCKET))], IDLE)
    for each in ("s3:DeleteObject", "sqs:*", "*", ""):
        with pytest.raises(NotAllowedError, match="not among what the change took away"):
            give(first, CHANGE, first.role, applied(first), [each], CATALOGUE)


def test_a_give_back_that_has_no_room_says_so() -> None:
    first = trimmed([inline("P", document(BUCKET, QUEUE))], IDLE)
    full = replace(applied(first), quotas=Quotas(role_policies_size=100))
    with pytest.raises(TooBigError) as refused:
        give(first, CHANGE, first.role, full, ["sqs:*", "s3:GetObject"], CATALOGUE)
    assert refused.value.next_step == "Give back fewer actions, or roll the whole change back."
    with pytest.raises(TooBigError, match="P would need"):
        give(first, CHANGE, first.role, full, ["sqs:*", "s3:*"], CATALOGUE)
    just = replace(full, quotas=Quotas(role_policies_size=size(first.role.policies[0].text)))
    assert back(first, just, ["sqs:*", "s3:*"], first.role).trim.policies[0].text == first.role.policies[0].text


@pytest.mark.parametrize("kind", [PolicyKind.INLINE, PolicyKind.CUSTOMER])
def test_what_comes_back_takes_the_room_of_what_it_comes_back_to(kind: PolicyKind) -> None:
    text = document(BUCKET, QUEUE, NO)
    first = trimmed([inline("P", text) if kind is PolicyKind.INLINE else managed("P", text)], IDLE)
    assert [p.name for p in applied(first).policies] == ["P"], "its Deny stays"
    for room, fits in ((size(text), True), (size(text) - 1, False)):
        live = replace(applied(first), quotas=Quotas(role_policies_size=room, managed_policy_size=room))
        if fits:
            assert back(first, live, ["sqs:*", "s3:*"], first.role).trim.policies[0].text == text
        else:
            with pytest.raises(TooBigError):
                give(first, CHANGE, first.role, live, ["sqs:*", "s3:*"], CATALOGUE)


def test_two_policies_that_come_back_at_once_share_the_room() -> None:
    both = [inline("P", document(QUEUE)), inline("Q", document({**QUEUE, "Action": "sns:*"}))]
    first = trimmed(both, IDLE)
    room = sum(size(p.text) for p in both)
    full = replace(applied(first), quotas=Quotas(role_policies_size=room - 1))
    with pytest.raises(TooBigError):
        give(first, CHANGE, first.role, full, ["sqs:*", "sns:*"], CATALOGUE)
    just = replace(full, quotas=Quotas(role_policies_size=room))
    assert len(back(first, just, ["sqs:*", "sns:*"], first.role).trim.policies) == 2


def test_what_is_attached_again_as_it_was_is_as_long_as_it_was() -> None:
    """AWS's own policies may be longer than a customer's."""
    first = trimmed([managed("Long", document(QUEUE), PolicyKind.AWS)], IDLE)
    small = replace(applied(first), quotas=Quotas(managed_policy_size=50))
    assert outcomes(back(first, small, ["sqs:*"], first.role)) == [("Long", "Long", Outcome.GIVEN_BACK)]


def test_what_the_change_left_alone_may_have_been_edited_since() -> None:
    first = trimmed([inline("P", document(QUEUE)), inline("No", document(NO))], IDLE)
    edited = role_of([inline("No", document({**NO, "Resource": "*"}))])
    made = back(first, edited, ["sqs:SendMessage"], first.role)
    assert ("No", "No", Outcome.UNCHANGED) in outcomes(made)


@pytest.mark.parametrize(
    ("text", "wrong", "wider"),
    [
        (document({**BUCKET, "Action": ["s3:PutObject", "s3:GetObject"]}, NO), "s3:GetObject was not asked for", True),
        (document({**BUCKET, "Action": ["s3:PutObject"], "Resource": "*"}, NO), "inside no old one", True),
        (document({**BUCKET, "Action": ["s3:PutObject"]}), "is gone", True),
        (document(NO), "s3:PutObject is lost", False),
    ],
)
def test_the_checker_refuses_a_give_back_that_gives_more_or_less_than_is_named(
    text: str, wrong: str, wider: bool
) -> None:
    first = trimmed([inline("P", document(BUCKET, NO))], IDLE)
    made = back(first, applied(first), ["s3:PutObject"], first.role)
    assert made.give_back is not None
    bad = replace(made.trim, policies=(replace(made.trim.policies[0], text=text),))
    proof = prove(first.role.policies, made.role.policies, bad, made.give_back)
    assert not proof.holds
    assert proof.no_new_access != wider
    assert wider or not proof.nothing_used_lost
    assert wrong in "; ".join(proof.problems)


def test_the_checker_sees_what_the_live_policies_lose_and_what_is_there_beside_them() -> None:
    kept = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": "*"}
    plain = trimmed([inline("P", document(BUCKET, NO))], IDLE)
    live = role_of([inline("P", document(kept, NO))])
    snapshot = role_of([inline("P", document(BUCKET, kept, NO))])
    first = replace(
        plain,
        role=snapshot,
        trim=replace(
            plain.trim,
            policies=(_outcome("inline/P", document(kept, NO)),),
            actions=(*plain.trim.actions, replace(plain.trim.actions[0], action="iam:PassRole", kept=True)),
        ),
    )
    made = back(first, live, ["s3:PutObject"], snapshot)
    assert made.give_back is not None
    less = replace(made.trim, policies=(_outcome("inline/P", document({**BUCKET, "Action": ["s3:PutObject"]}, NO)),))
    proof = prove(snapshot.policies, live.policies, less, made.give_back)
    assert not proof.nothing_used_lost
    assert "iam:PassRole is lost" in "; ".join(proof.problems)
    more = replace(made.trim, policies=(*made.trim.policies, _outcome("", document(QUEUE), "Q")))
    proof = prove(snapshot.policies, live.policies, more, made.give_back)
    assert (proof.no_new_access, proof.nothing_used_lost) == (False, True)
    assert "Q comes from no old policy" in proof.problems


def _outcome(source: str, text: str, name: str = "P") -> PolicyOutcome:
    return PolicyOutcome(
        name=name,
        kind=PolicyKind.INLINE,
        source=source,
        outcome=Outcome.GIVEN_BACK,
        tier=1,
        text=text,
        characters=len(text),
    )


def test_a_split_policy_keeps_its_parts_and_gets_one_more() -> None:
    """Nothing may move from one part to another: between the two writes it would be allowed by neither."""
    every = [a for a in ALL if a.startswith(("s3:", "sqs:"))]
    size = Quotas(managed_policy_size=2500)
    many = [{"Effect": "Allow", "Action": every, "Resource": f"arn:aws:s3:::bucket-{n}"} for n in range(2)]
    settings = TrimSettings(mode=Mode.STRICT, now=NOW, quotas=size, keep=("s3:*",))
    role = role_of([managed("Big", document(*many))], size)
    first = proposal_of(role, IDLE, trim(role.policies, IDLE, CATALOGUE, settings))
    live = applied(first)
    assert len(live.policies) > 1
    made = back(first, live, ["sqs:SendMessage"], role)
    assert [o.text for o in made.trim.policies if o.name in {p.name for p in live.policies}] == [
        p.text for p in live.policies
    ]
    (new,) = (o for o in made.trim.policies if o.name not in {p.name for p in live.policies})
    assert [s["Action"] for s in statements(new.text)] == [["sqs:SendMessage"]] * 2


def test_an_approval_of_a_give_back_is_of_what_it_gives() -> None:
    first = trimmed([inline("P", document(BUCKET, QUEUE))], IDLE)
    made = back(first, applied(first), ["s3:PutObject"], first.role)
    assert made.give_back is not None
    other = replace(made, give_back=replace(made.give_back, change=ChangeId("c2-1-apply")))
    assert len({made.digest(), other.digest(), replace(made, give_back=None).digest()}) == 3
