"""The rules: the table of states, who may press what, and plans whose inverses bring everything back."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot import rules
from bot.errors import LostRaceError, NotAllowedError, StaleError
from bot.model import (
    Approval,
    Case,
    CaseId,
    CaseState,
    Change,
    ChangeId,
    Evidence,
    GiveBack,
    Outcome,
    Person,
    PolicyKind,
    PolicyOutcome,
    Proof,
    Proposal,
    ProposalId,
    Quotas,
    Role,
    RolePolicy,
    Step,
    StepKind,
    Trim,
    TrimSettings,
    UserId,
    permissions_digest,
)
from bot.rules import Button, Event, Guard, Permit, Team

AT = datetime(2026, 1, 31, tzinfo=UTC)
ARN = "arn:aws:iam::123456789012:role/ApplicationRole"
ANN, BEN, CAT = UserId("UANN"), UserId("UBEN"), UserId("UCAT")
TEAM = Team(workspace="T1", approvers=frozenset({ANN, BEN}), needed=1, four_eyes=True)


def person(user: str, **more: object) -> Person:
    return Person(id=UserId(user), name=user.lower(), team="T1", **more)


def managed(name: str, text: str = "{}", **more: object) -> RolePolicy:
    fields = {"default_version": "v1", "versions": ("v1",), "oldest_text": '{"oldest":1}', **more}
    return RolePolicy(
        name=name, kind=PolicyKind.CUSTOMER, text=text, arn=f"arn:aws:iam::123456789012:policy/{name}", **fields
    )


def aws_managed(name: str) -> RolePolicy:
    return RolePolicy(
        name=name,
        kind=PolicyKind.AWS,
        text='{"aws":1}',
        arn=f"arn:aws:iam::aws:policy/{name}",
        attachments=40,
        default_version="v3",
        versions=("v1", "v2", "v3"),
    )


def inline(name: str, text: str = "{}") -> RolePolicy:
    return RolePolicy(name=name, kind=PolicyKind.INLINE, text=text)


def role(*policies: RolePolicy, **more: object) -> Role:
    fields = {"path": "/", "name": "ApplicationRole", **more}
    return Role(
        arn=ARN,
        account="123456789012",
        role_id="AROAX",
        created_at=AT,
        trust_text="{}",
        policies=policies,
        read_at=AT,
        **fields,
    )


def outcome(policy: RolePolicy, text: str | None, name: str = "", kind: PolicyKind | None = None) -> PolicyOutcome:
    return PolicyOutcome(
        name=name or policy.name,
        kind=kind or policy.kind,
        source=policy.key,
        outcome=Outcome.REMOVED if text is None else Outcome.TRIMMED,
        tier=1,
        text=text,
        characters=len(text or ""),
    )


def proposal(of: Role, *outcomes: PolicyOutcome, by: UserId = CAT, holds: bool = True) -> Proposal:
    return Proposal(
        id=ProposalId("p1"),
        case_id=CaseId("c1"),
        role=of,
        evidence=Evidence(services=(), made_at=AT),
        settings=TrimSettings(now=AT),
        trim=Trim(
            policies=outcomes,
            actions=(),
            services=(),
            warnings=(),
            proof=Proof(no_new_access=holds, nothing_used_lost=holds),
        ),
        proposed_by=by,
        proposed_at=AT,
    )


def case(state: CaseState = CaseState.WAITING, **more: object) -> Case:
    return Case(
        id=CaseId("c1"),
        role_arn=ARN,
        account="123456789012",
        state=state,
        revision=3,
        opened_at=AT,
        updated_at=AT,
        **more,
    )


def yes(of: Proposal, by: UserId = ANN) -> Approval:
    return Approval(proposal_id=of.id, digest=of.digest(), by=by, at=AT)


class Account:
    """A few lines of IAM: enough to carry out steps and show what is then true."""

    def __init__(self, before: Role) -> None:
        self.before = before
        self.attached = {p.arn for p in before.policies if p.arn}
        self.inline = {p.name: p.text for p in before.policies if not p.arn}
        self.versions: dict[str, dict[str, str]] = {}
        self.default: dict[str, str] = {}
        self.kind: dict[str, PolicyKind] = {}
        self.others = {p.arn: p.attachments - 1 for p in before.policies if p.arn}  # that it is attached to
        for p in before.policies:
            if p.arn:
                self.versions[p.arn] = dict.fromkeys(p.versions, '{"old":1}') | {p.default_version: p.text}
                self.default[p.arn], self.kind[p.arn] = p.default_version, p.kind

    def policy(self, arn: str) -> RolePolicy | None:
        if arn not in self.versions:
            return None
        return RolePolicy(
            name=arn.rsplit("/", 1)[-1],
            kind=self.kind[arn],
            text=self.versions[arn][self.default[arn]],
            arn=arn,
            attachments=self.others.get(arn, 0) + (arn in self.attached),
            default_version=self.default[arn],
            versions=tuple(self.versions[arn]),
        )

    def role(self) -> Role:
        policies = [p for a in sorted(self.attached) if (p := self.policy(a))]
        policies += [inline(n, t) for n, t in sorted(self.inline.items())]
        return replace(self.before, policies=tuple(policies))

    def do(self, step: Step) -> str:
        arn = step.policy_arn
        assert rules.effect(step, self.role(), self.policy(arn)) == "before"
        made = ""
        match step.kind:
            case StepKind.CREATE_POLICY:
                self.versions[arn], self.default[arn], self.kind[arn] = {"v1": step.text}, "v1", PolicyKind.CUSTOMER
            case StepKind.CREATE_VERSION:
                assert self.kind[arn] is PolicyKind.CUSTOMER, "AWS's own policies cannot be changed"
                assert len(self.versions[arn]) < self.before.quotas.policy_versions
                made = f"v{max(int(v[1:]) for v in self.versions[arn]) + 1}"
                self.versions[arn][made], self.default[arn] = step.text, made
            case StepKind.DELETE_VERSION:
                assert step.version != self.default[arn]
                del self.versions[arn][step.version]
            case StepKind.SET_DEFAULT_VERSION:
                assert step.version in self.versions[arn]
                self.default[arn] = step.version
            case StepKind.ATTACH:
                self.attached.add(arn)
                assert len(self.attached) <= self.before.quotas.attached_policies
            case StepKind.DETACH:
                self.attached.remove(arn)
            case StepKind.PUT_INLINE:
                self.inline[step.policy_name] = step.text
            case StepKind.DELETE_INLINE:
                del self.inline[step.policy_name]
            case StepKind.DELETE_POLICY:
                assert arn not in self.attached
                del self.versions[arn]
        assert rules.effect(step, self.role(), self.policy(arn)) == "after"
        return made


@st.composite
def proposals(draw: st.DrawFn) -> Proposal:
    policies: list[RolePolicy] = []
    outcomes: list[PolicyOutcome] = []
    for n in range(draw(st.integers(1, 4))):
        which = draw(st.sampled_from(["own", "full", "shared", "aws", "inline"]))
        match which:
            case "own":
                policy = managed(f"P{n}", f'{{"p":{n}}}')
            case "full":
                policy = managed(f"P{n}", f'{{"p":{n}}}', default_version="v4", versions=("v2", "v3", "v4", "v5", "v6"))
            case "shared":
                policy = managed(f"P{n}", f'{{"p":{n}}}', attachments=draw(st.integers(1, 3)), boundary_uses=1)
            case "aws":
                policy = aws_managed(f"P{n}")
            case _:
                policy = inline(f"P{n}", f'{{"p":{n}}}')
        policies.append(policy)
        shared = which in {"shared", "aws"}
        what = draw(st.sampled_from(["keep", "trim", "remove", "split"]))
        new = f"Refine-ApplicationRole-P{n}" if shared else policy.name
        kind = PolicyKind.INLINE if which == "inline" else PolicyKind.CUSTOMER
        match what:
            case "trim":
                outcomes.append(outcome(policy, f'{{"new":{n}}}', new, kind))
            case "remove":
                outcomes.append(outcome(policy, None))
            case "split":
                outcomes.append(outcome(policy, f'{{"new":{n},"part":1}}', new, kind))
                outcomes.append(outcome(policy, f'{{"new":{n},"part":2}}', f"{new}-2", kind))
            case _:
                pass
    # Four policies split in two are twelve attached ones for a moment: whether there is room is another test's business.
    return proposal(role(*policies, quotas=Quotas(attached_policies=12)), *outcomes)


@given(proposals(), st.integers(0, 30))
@settings(deadline=None)
def test_a_plan_reaches_what_it_promises_and_its_inverse_brings_everything_back(p: Proposal, stop: int) -> None:
    account = Account(p.role)
    steps = rules.plan(p, p.role)
    done = [(step, account.do(step)) for step in steps[: min(stop, len(steps))]]
    for numbered in (steps, rules.undo(done, p.role)):
        assert [s.number for s in numbered] == list(range(1, len(numbered) + 1))
    if len(done) == len(steps):
        changed = {o.source for o in p.trim.policies}
        wanted = [o.text for o in p.trim.policies if o.text] + [x.text for x in p.role.policies if x.key not in changed]
        assert sorted(x.text for x in account.role().policies) == sorted(wanted), "what was approved, and nothing else"
        assert permissions_digest(account.role().policies) == rules.expected(p.role, steps)
    for step in rules.undo(done, p.role):
        account.do(step)
    assert permissions_digest(account.role().policies) == permissions_digest(p.role.policies)
    assert all(account.default[x.arn] == x.default_version for x in p.role.policies if x.arn)
    assert not any("/refine/" in arn for arn in account.versions), "copies that Refine made are gone again"


@given(proposals())
@settings(deadline=None)
def test_nothing_is_taken_before_everything_new_is_there(p: Proposal) -> None:
    kinds = [s.kind for s in rules.plan(p, p.role)]
    takes = [i for i, k in enumerate(kinds) if k in {StepKind.DETACH, StepKind.DELETE_INLINE}]
    gives = [i for i, k in enumerate(kinds) if k in {StepKind.CREATE_POLICY, StepKind.ATTACH, StepKind.CREATE_VERSION}]
    assert not takes or not gives or max(gives) < min(takes)
    assert not {StepKind.DELETE_POLICY, StepKind.SET_DEFAULT_VERSION} & set(kinds)


def test_room_is_made_from_the_oldest_version_that_is_not_in_force() -> None:
    policy = managed("Full", default_version="v2", versions=("v2", "v3", "v4", "v5", "v6"))
    steps = rules.plan(proposal(role(policy), outcome(policy, '{"n":1}')), role(policy))
    assert [(s.kind, s.version) for s in steps] == [(StepKind.DELETE_VERSION, "v3"), (StepKind.CREATE_VERSION, "")]
    assert steps[0].before == '{"oldest":1}', "its document is on disk before it goes"
    lost = replace(policy, oldest_text="")
    with pytest.raises(NotAllowedError, match="could not be read, so it would be lost"):
        rules.plan(proposal(role(lost), outcome(lost, '{"n":1}')), role(lost))


def test_a_copy_without_a_free_slot_is_refused_in_plain_words() -> None:
    policies = [aws_managed(f"A{n}") for n in range(3)]
    full = role(*policies, quotas=Quotas(attached_policies=3))
    asked = proposal(full, outcome(policies[0], "{}", "Copy", PolicyKind.CUSTOMER))
    with pytest.raises(NotAllowedError, match="may have 3 attached policies, and the change would need 4"):
        rules.plan(asked, full)
    roomy = replace(full, quotas=Quotas(attached_policies=4))
    assert len(rules.plan(asked, roomy)) == 3, "the quota is the account's own as just read, and may be used up"


def test_a_new_inline_policy_takes_no_slot() -> None:
    mine = inline("Mine")
    full = role(aws_managed("A"), mine, quotas=Quotas(attached_policies=1))
    parts = (outcome(mine, '{"n":1}'), outcome(mine, '{"n":2}', "Mine-2"))
    assert [s.policy_name for s in rules.plan(proposal(full, *parts), full)] == ["Mine-2", "Mine"]


def test_inline_policies_fit_in_their_quota_at_every_moment() -> None:
    """White space does not count, and a role that is over the quota already may get smaller."""
    one, two = inline("One", '{"a": 1}'), inline("Two", '{"b":22}')
    parts = (outcome(one, '{"a": 1111}'), outcome(two, None))
    for most, fits in ((17, False), (18, True)):
        full = role(one, two, quotas=Quotas(role_policies_size=most))
        if fits:
            assert len(rules.plan(proposal(full, *parts), full)) == 2
        else:
            with pytest.raises(NotAllowedError, match="17 characters together, and the change would need 18 for a"):
                rules.plan(proposal(full, *parts), full)
    other = managed("Other")
    full = role(one, two, other, quotas=Quotas(role_policies_size=17))
    assert rules.plan(proposal(full, outcome(other, '{"n":"of no account here"}')), full)
    over = role(one, two, quotas=Quotas(role_policies_size=5))
    assert len(rules.plan(proposal(over, outcome(one, "{}"), outcome(two, None)), over)) == 2
    assert len(rules.plan(proposal(over, outcome(one, '{"a": 2}')), over)) == 1


@pytest.mark.parametrize("used", [{"attachments": 2}, {"boundary_uses": 1}])
def test_a_policy_that_others_use_since_the_proposal_is_left_to_them(used: dict[str, int]) -> None:
    """Its text is the proposal's, and so is the digest; the new document goes to a copy all the same."""
    asked = proposal(role(managed("P", '{"old":1}')), outcome(managed("P"), '{"n":1}'))
    kinds = [(s.kind, s.policy_arn) for s in rules.plan(asked, role(managed("P", '{"old":1}', **used)))]
    copy = "arn:aws:iam::123456789012:policy/refine/P"
    assert kinds == [(StepKind.CREATE_POLICY, copy), (StepKind.ATTACH, copy), (StepKind.DETACH, managed("P").arn)]
    assert [s.kind for s in rules.plan(asked, asked.role)] == [StepKind.CREATE_VERSION], "where it is the role's alone"


def test_what_comes_back_is_attached_as_it_is_or_made_anew_and_the_rest_stays() -> None:
    """A give-back brings policies that the role has not any more, and leaves those that it has."""
    stays = managed("Stays", '{"s":1}', attachments=2)
    gone = [aws_managed("Gone"), managed("Lost", '{"l":1}'), inline("Put", '{"p":1}')]
    asked = proposal(
        role(stays),
        outcome(stays, stays.text),
        outcome(stays, '{"more":1}', "Stays-2"),
        outcome(gone[0], gone[0].text),
        outcome(gone[1], '{"l":2}', "Lost-2"),
        outcome(gone[2], gone[2].text),
    )
    base = "arn:aws:iam::123456789012:policy/refine"
    assert [(s.kind, s.policy_arn, s.text) for s in rules.plan(asked, asked.role)] == [
        (StepKind.CREATE_POLICY, f"{base}/Stays-2", '{"more":1}'),
        (StepKind.ATTACH, f"{base}/Stays-2", '{"more":1}'),
        (StepKind.ATTACH, gone[0].arn, gone[0].text),
        (StepKind.CREATE_POLICY, f"{base}/Lost-2", '{"l":2}'),
        (StepKind.ATTACH, f"{base}/Lost-2", '{"l":2}'),
        (StepKind.PUT_INLINE, "", '{"p":1}'),
    ]


def test_an_unchanged_policy_is_not_written() -> None:
    one, two = managed("One"), managed("Two")
    same = replace(outcome(one, one.text), outcome=Outcome.UNCHANGED)
    steps = rules.plan(proposal(role(one, two), same, outcome(two, '{"n":1}')), role(one, two))
    assert [s.policy_name for s in steps] == ["Two"]


def test_a_moved_policy_makes_the_plan_stale() -> None:
    policy = managed("P")
    with pytest.raises(StaleError, match="changed since"):
        rules.plan(proposal(role(policy), outcome(policy, "{}")), role(replace(policy, text="{ }")))


# -------------------- states


def test_every_state_can_be_left_and_every_button_leads_somewhere() -> None:
    for state in CaseState:
        assert any(s is state for s, _ in rules.TRANSITIONS), state
        assert state in rules.BUTTONS
    assert set(Button) - rules.LEADS.keys() == {Button.EXPLAIN, Button.NARROW}, "these two only show something"
    for state, offered in rules.BUTTONS.items():
        for button in set(offered) & rules.LEADS.keys():
            assert (state, rules.LEADS[button]) in rules.TRANSITIONS, (state, button)


def test_only_an_approval_leads_to_a_write() -> None:
    assert {k for k, v in rules.TRANSITIONS.items() if v is CaseState.APPLYING} == {(CaseState.WAITING, Event.APPROVED)}
    assert {k[1] for k, v in rules.TRANSITIONS.items() if v is CaseState.ROLLING_BACK} == {Event.ROLL_BACK}


def test_a_late_click_learns_who_was_first() -> None:
    with pytest.raises(LostRaceError, match=r"<@UBEN> approved the proposal.*00:00 UTC"):
        rules.after(case(CaseState.APPLYING, asked_by=BEN), Event.DECLINE)


def test_a_look_at_an_applied_case_does_not_cost_its_way_back() -> None:
    looking = case(CaseState.WORKING, resume=CaseState.WATCHING)
    assert rules.after(looking, Event.REVIEWED) is CaseState.WATCHING


def test_a_rollback_is_offered_only_while_something_is_in_force() -> None:
    change = applied(GOOD)
    stopped = case(CaseState.FAILED, change=change, steps_done=0)
    assert not rules.can_roll_back(stopped)
    assert rules.buttons(stopped) == (Button.RETRY, Button.ACCEPT, Button.REOPEN)
    partly = replace(stopped, steps_done=1)
    assert rules.can_roll_back(partly)
    assert rules.buttons(partly) == (Button.RETRY, Button.ROLL_BACK)
    back = replace(change, kind="rollback", undoes=change.id)
    assert rules.can_roll_back(case(CaseState.FAILED, change=back, steps_done=0))
    assert not rules.can_roll_back(case(CaseState.FAILED, change=back, steps_done=1))
    assert not rules.can_roll_back(case(CaseState.FAILED))
    snoozed = case(CaseState.SNOOZED, change=change, steps_done=1)
    assert rules.buttons(snoozed) == (Button.REOPEN, Button.ROLL_BACK, Button.GIVE_BACK)
    half_back = replace(snoozed, change=back, steps_done=0)  # nobody can tell what of it there is to give
    assert rules.buttons(half_back) == (Button.REOPEN, Button.ROLL_BACK)
    rolled_back = case(CaseState.ROLLED_BACK, change=change, steps_done=1)  # the change before the one taken back
    assert rules.buttons(rolled_back) == (Button.REPLAN, Button.REOPEN, Button.ROLL_BACK, Button.GIVE_BACK)
    assert rules.buttons(replace(rolled_back, change=back)) == (Button.REPLAN, Button.REOPEN)


def test_a_proposal_that_waits_can_be_adjusted_unless_it_gives_back() -> None:
    """Beside it the change in force can be rolled back, and nothing further of it asked for."""
    asked = (Button.APPROVE, Button.DECLINE, Button.ADJUST)
    waiting = case(CaseState.WAITING, proposal=GOOD)
    assert rules.buttons(waiting) == asked
    over = replace(waiting, change=applied(GOOD), steps_done=1)
    assert rules.buttons(over) == (*asked, Button.ROLL_BACK)
    gives = replace(GOOD, give_back=GiveBack(change=applied(GOOD).id, actions=("s3:PutObject",), origin=()))
    assert rules.buttons(replace(over, proposal=gives)) == (Button.APPROVE, Button.DECLINE, Button.ROLL_BACK)
    assert not rules.can_give_back(over)


# -------------------- people


@pytest.mark.parametrize(
    ("who", "why"),
    [
        (person("UANN", deleted=True), "deactivated"),
        (person("UANN", bot=True), "Bots"),
        (person("UANN", guest=True), "Guests"),
        (person("UANN", stranger=True), "another workspace"),
        (replace(person("UANN"), team="T2"), "another workspace"),
        (person("UDAN"), "not one of the approvers"),
        (person("UCAT"), "not one of the approvers"),
    ],
)
def test_who_may_not_approve(who: Person, why: str) -> None:
    asked = case(proposal=proposal(role(managed("P"))))
    with pytest.raises(NotAllowedError, match=why):
        rules.may(who, Button.APPROVE, asked, TEAM)


def test_the_proposer_may_not_approve_where_four_eyes_are_asked_for() -> None:
    asked = case(proposal=proposal(role(managed("P")), by=ANN))
    with pytest.raises(NotAllowedError, match="somebody else has to approve"):
        rules.may(person("UANN"), Button.APPROVE, asked, TEAM)
    rules.may(person("UBEN"), Button.APPROVE, asked, TEAM)
    rules.may(person("UANN"), Button.APPROVE, asked, replace(TEAM, four_eyes=False))


def test_a_person_says_yes_once() -> None:
    p = proposal(role(managed("P")))
    asked = case(proposal=p, approvals=(yes(p, BEN),))
    with pytest.raises(NotAllowedError, match="approved this proposal already"):
        rules.may(person("UBEN"), Button.APPROVE, asked, replace(TEAM, needed=2))
    rules.may(person("UANN"), Button.APPROVE, asked, replace(TEAM, needed=2))
    # Once it is decided, they hear who decided it, as everybody does who comes too late.
    rules.may(person("UBEN"), Button.APPROVE, replace(asked, state=CaseState.APPLYING), replace(TEAM, needed=2))


@pytest.mark.parametrize("button", Button)
def test_every_member_may_look_and_propose_and_approvers_alone_do_the_rest(button: Button) -> None:
    asked = case(CaseState.NEW)
    rules.may(person("UANN"), button, asked, TEAM)
    if button in {
        Button.REVIEW, Button.PROPOSE, Button.REPLAN, Button.RETRY, Button.EXPLAIN, Button.ADJUST, Button.NARROW,
        Button.GIVE_BACK,
    }:  # fmt: skip
        rules.may(person("UZOE"), button, asked, TEAM)
    else:
        with pytest.raises(NotAllowedError, match="not one of the approvers"):
            rules.may(person("UZOE"), button, asked, TEAM)


def test_no_approvers_means_nobody() -> None:
    asked = case(proposal=proposal(role(managed("P"))))
    for user in ("UANN", "UBEN", "UCAT"):
        with pytest.raises(NotAllowedError, match="Nobody is set up"):
            rules.may(person(user), Button.APPROVE, asked, replace(TEAM, approvers=frozenset()))


def test_approvals_count_once_a_person_and_only_for_this_very_text() -> None:
    p = proposal(role(managed("P")))
    asked = case(proposal=p)
    two = replace(TEAM, needed=2)
    assert not rules.enough(asked, [yes(p), yes(p)], two)
    assert not rules.enough(asked, [yes(p), replace(yes(p, BEN), digest="0" * 64)], two)
    assert not rules.enough(asked, [yes(p), yes(p, CAT)], two)
    assert rules.enough(asked, [yes(p), yes(p, BEN)], two)
    assert not rules.enough(asked, [], replace(TEAM, needed=0))
    assert not rules.enough(case(), [yes(p)], TEAM), "there is nothing to say yes to"


# -------------------- the permit


def applied(p: Proposal) -> Change:
    steps = rules.plan(p, p.role)
    return Change(
        id=ChangeId("x1"),
        case_id=p.case_id,
        proposal_id=p.id,
        kind="apply",
        role_arn=p.role.arn,
        steps=steps,
        by=ANN,
        at=AT,
        before=p.role,
        expected=rules.expected(p.role, steps),
    )


def test_a_permit_cannot_be_made_by_hand() -> None:
    with pytest.raises(NotAllowedError):
        Permit(change_id=ChangeId("x"), role_arn=ARN, steps=frozenset())


POLICY = managed("P", '{"p":1}')
GOOD = proposal(role(POLICY), outcome(POLICY, '{"n":1}'))
GOOD_STEP = rules.plan(GOOD, GOOD.role)[0]


@pytest.mark.parametrize(
    ("change", "prop", "approvals", "live", "guard", "error"),
    [
        (applied(GOOD), GOOD, [], GOOD.role, Guard(), NotAllowedError),
        (applied(GOOD), GOOD, [yes(GOOD, CAT)], GOOD.role, Guard(), NotAllowedError),
        (applied(GOOD), GOOD, [yes(GOOD)], role(replace(POLICY, text="{}")), Guard(), StaleError),
        (applied(GOOD), GOOD, [yes(GOOD)], replace(GOOD.role, role_id="AROAY"), Guard(), StaleError),
        (applied(GOOD), GOOD, [yes(GOOD)], GOOD.role, Guard(patterns=("App*",)), NotAllowedError),
        (applied(GOOD), GOOD, [yes(GOOD)], GOOD.role, Guard(own_roles=(ARN,)), NotAllowedError),
        (replace(applied(GOOD), steps=()), GOOD, [yes(GOOD)], GOOD.role, Guard(), NotAllowedError),
        (replace(applied(GOOD), kind="rollback"), GOOD, [yes(GOOD)], GOOD.role, Guard(), NotAllowedError),
        (replace(applied(GOOD), proposal_id="p2"), GOOD, [yes(GOOD)], GOOD.role, Guard(), NotAllowedError),
        (replace(applied(GOOD), role_arn=f"{ARN}2"), GOOD, [yes(GOOD)], GOOD.role, Guard(), NotAllowedError),
    ],
)
def test_no_permit_without_a_fresh_approval_of_this_very_text(change, prop, approvals, live, guard, error) -> None:
    with pytest.raises(error):
        rules.permit_apply(change, prop, approvals, live, TEAM, guard, begun=False)


def test_a_proof_that_does_not_hold_gives_no_permit() -> None:
    bad = proposal(role(POLICY), outcome(POLICY, '{"n":1}'), holds=False)
    with pytest.raises(NotAllowedError, match="proof"):
        rules.permit_apply(applied(bad), bad, [yes(bad)], bad.role, TEAM, Guard(), begun=False)


def test_a_permit_covers_the_steps_of_its_change_and_no_other() -> None:
    change = applied(GOOD)
    permit = rules.permit_apply(change, GOOD, [yes(GOOD)], GOOD.role, TEAM, Guard(), begun=False)
    assert all(permit.covers(s) for s in change.steps)
    assert not permit.covers(replace(change.steps[0], text='{"more":1}'))


def test_a_role_made_anew_gets_no_permit_though_its_policies_are_the_same() -> None:
    """In the middle of a change the policies are not compared as a whole: the role's id tells it apart."""
    change = applied(GOOD)
    other = replace(GOOD.role, role_id="AROAY")
    with pytest.raises(StaleError, match="made anew"):
        rules.permit_apply(change, GOOD, [yes(GOOD)], other, TEAM, Guard(), begun=True)
    back = replace(change, id=ChangeId("x2"), kind="rollback", steps=rules.undo([(change.steps[0], "v2")], GOOD.role))
    with pytest.raises(StaleError, match="made anew"):
        rules.permit_back(back, change, {1: "v2"}, other, Guard(), begun=True)


def test_a_permit_cannot_be_widened() -> None:
    permit = rules.permit_apply(applied(GOOD), GOOD, [yes(GOOD)], GOOD.role, TEAM, Guard(), begun=False)
    more = permit.steps | {replace(GOOD_STEP, text='{"more":1}')}
    with pytest.raises(FrozenInstanceError):
        permit.steps = more  # type: ignore[misc]
    for widen in (
        lambda: replace(permit, steps=more),
        lambda: replace(permit, role_arn=f"{ARN}2"),
        lambda: copy.copy(permit),
        lambda: copy.deepcopy(permit),
        lambda: pickle.dumps(permit),
    ):
        with pytest.raises(NotAllowedError):
            widen()


def test_a_rollback_gets_a_permit_for_the_inverses_and_nothing_else() -> None:
    change = applied(GOOD)
    now = role(replace(POLICY, text='{"n":1}', default_version="v2"))
    steps = rules.undo([(change.steps[0], "v2")], GOOD.role)
    back = replace(change, id=ChangeId("x2"), kind="rollback", steps=steps)
    permit = rules.permit_back(back, change, {1: "v2"}, now, Guard(), begun=False)
    assert (permit.change_id, permit.role_arn) == ("x2", ARN)
    assert all(permit.covers(s) for s in steps)
    assert not permit.covers(change.steps[0])
    for wrong in (
        replace(back, steps=(*steps, *change.steps)),
        replace(back, steps=(replace(steps[0], text='{"more":1}'),)),
        replace(back, role_arn=f"{ARN}2"),
    ):
        with pytest.raises(NotAllowedError, match="not the inverses"):
            rules.permit_back(wrong, change, {1: "v2"}, now, Guard(), begun=False)
    rest = rules.permit_back(replace(back, steps=steps[1:]), change, {1: "v2"}, now, Guard(), begun=False)
    assert rest.steps == frozenset(steps[1:]), "somebody did the first by hand"
    with pytest.raises(NotAllowedError, match="not the inverses"):
        rules.permit_back(back, change, {}, now, Guard(), begun=False)


@pytest.mark.parametrize("guard", [Guard(patterns=("App*",)), Guard(own_roles=(ARN,))])
def test_a_role_that_became_protected_is_not_rolled_back_and_not_left_half_way(guard: Guard) -> None:
    change = applied(GOOD)
    now = role(replace(POLICY, text='{"n":1}', default_version="v2"))
    steps = rules.undo([(change.steps[0], "v2")], GOOD.role)
    back = replace(change, id=ChangeId("x2"), kind="rollback", steps=steps)
    with pytest.raises(NotAllowedError, match="must not touch this role any more"):
        rules.permit_back(back, change, {1: "v2"}, now, guard, begun=False)
    assert rules.permit_back(back, change, {1: "v2"}, now, guard, begun=True).steps == frozenset(steps)


def test_a_deleted_version_is_made_anew_from_the_journal_only() -> None:
    change = applied(GOOD)
    now = role(replace(POLICY, text='{"n":1}', default_version="v2", versions=("v2",)))
    steps = rules.undo([(change.steps[0], "v2")], GOOD.role, {POLICY.arn})
    assert [(s.kind, s.text, s.version) for s in steps] == [
        (StepKind.CREATE_VERSION, POLICY.text, ""),
        (StepKind.DELETE_VERSION, "", "v2"),
    ]
    back = replace(change, id=ChangeId("x2"), kind="rollback", steps=steps)
    assert rules.permit_back(back, change, {1: "v2"}, now, Guard(), begun=False).steps == frozenset(steps)
    forged = (replace(steps[0], text='{"more":1}'), steps[1])
    with pytest.raises(NotAllowedError):
        rules.permit_back(replace(back, steps=forged), change, {1: "v2"}, now, Guard(), begun=False)


def test_a_version_whose_id_is_not_known_is_not_deleted() -> None:
    (again,) = rules.undo([(applied(GOOD).steps[0], "")], GOOD.role)
    assert (again.kind, again.text) == (StepKind.SET_DEFAULT_VERSION, POLICY.text)


SHARED = managed("Shared", '{"shared":1}', attachments=2)
GONE = inline("Gone", '{"gone":1}')
KEPT = inline("Kept", '{"kept":1}')
MANY = proposal(
    role(POLICY, SHARED, GONE, inline("I", '{"i":1}'), KEPT),
    outcome(POLICY, '{"n":1}'),
    outcome(SHARED, '{"copy":1}', "Refine-Shared", PolicyKind.CUSTOMER),
    outcome(GONE, None),
    outcome(inline("I"), '{"i":2}'),
)


def test_what_stays_as_it_is_is_not_written() -> None:
    same = replace(outcome(KEPT, KEPT.text), outcome=Outcome.UNCHANGED)
    made = proposal(role(POLICY, KEPT), outcome(POLICY, '{"n":1}'), same)
    assert [s.policy_name for s in rules.plan(made, made.role)] == ["P"]


def done_and_undone() -> tuple[Account, list[tuple[Step, str]], tuple[Step, ...]]:
    account = Account(MANY.role)
    done = [(s, account.do(s)) for s in rules.plan(MANY, MANY.role)]
    return account, done, rules.undo(done, MANY.role)


def look(account: Account, steps: tuple[Step, ...]) -> rules.Ahead:
    return rules.ahead(steps, account.role(), {s.policy_arn: account.policy(s.policy_arn) for s in steps})


def test_a_look_ahead_of_a_rollback_finds_all_its_steps_to_do() -> None:
    account, _, back = done_and_undone()
    assert look(account, back) == rules.Ahead(todo=back)


def test_a_look_ahead_finds_what_somebody_did_and_minds_nothing_else() -> None:
    account, _, back = done_and_undone()
    account.inline |= {"Kept": '{"theirs":1}', "Added": "{}"}
    assert look(account, back) == rules.Ahead(todo=back), "the change touched neither"
    account.inline |= {"I": '{"theirs":2}', "Gone": '{"theirs":3}'}
    account.versions[SHARED.arn]["v1"] = '{"theirs":4}'
    account.attached.remove(POLICY.arn)
    found = {d.name: (d.left, d.live) for d in look(account, back).overtaken}
    assert found == {
        "I": ('{"i":2}', '{"theirs":2}'),
        "Gone": (None, '{"theirs":3}'),
        "Shared": (SHARED.text, '{"theirs":4}'),
        "P": ('{"n":1}', None),
    }


@given(st.sets(st.integers(1, 8)))
@settings(deadline=None)
def test_whatever_somebody_restored_by_hand_the_rest_brings_everything_back(by_hand: set[int]) -> None:
    account, done, back = done_and_undone()
    for s in back:
        if s.kind is StepKind.DELETE_POLICY and s.policy_arn in account.attached:
            continue  # AWS would refuse it
        if s.number in by_hand and rules.effect(s, account.role(), account.policy(s.policy_arn)) == "before":
            account.do(s)
    ahead = look(account, back)
    assert (ahead.overtaken, ahead.full) == ((), "")
    for s in ahead.todo:
        account.do(s)
    assert rules.amiss(back, ahead.todo, MANY.role, account.role()) == ()
    assert rules.beyond(MANY.role, account.role()) == ()
    assert not any("/refine/" in arn for arn in account.versions)
    assert done


def test_the_old_text_in_a_new_version_is_the_old_text() -> None:
    account, _, back = done_and_undone()
    account.versions[POLICY.arn]["v3"], account.default[POLICY.arn] = POLICY.text, "v3"
    left = [s.kind for s in look(account, back).todo if s.policy_arn == POLICY.arn]
    assert left == [StepKind.DELETE_VERSION], "the trimmed version is in nobody's way, and goes"
    assert look(account, back).overtaken == ()
    del account.versions[POLICY.arn]["v2"]
    assert [s for s in look(account, back).todo if s.policy_arn == POLICY.arn] == []


def test_an_original_that_somebody_attached_by_hand_stays_as_its_owner_has_it() -> None:
    account, _, back = done_and_undone()
    account.versions[SHARED.arn]["v1"] = '{"theirs":4}'
    account.attached.add(SHARED.arn)
    todo = look(account, back).todo
    assert all(s.kind is not StepKind.ATTACH for s in todo)
    for s in todo:
        account.do(s)
    assert rules.amiss(back, todo, MANY.role, account.role()) == ()
    assert rules.beyond(MANY.role, account.role()) == ("Shared",)
    assert rules.amiss(back, back, MANY.role, account.role()) == ("Shared",), "had Refine attached it"
    account.attached.remove(SHARED.arn)
    account.inline["Theirs"] = "{}"
    assert rules.beyond(MANY.role, account.role()) == ("Shared", "Theirs"), "what went and what came"


def test_a_rollback_without_room_is_not_begun() -> None:
    account, done, back = done_and_undone()
    quotas = Quotas(attached_policies=2)
    full = rules.ahead(
        back, replace(account.role(), quotas=quotas), {s.policy_arn: account.policy(s.policy_arn) for s in back}
    )
    assert full.full == "the role may have 2 attached policies"
    at_most = replace(account.role(), quotas=Quotas(attached_policies=3))
    assert rules.ahead(back, at_most, {s.policy_arn: account.policy(s.policy_arn) for s in back}).full == ""
    account.versions[POLICY.arn] |= {f"v{n}": "{}" for n in range(3, 6)}
    assert look(account, back).full == "", "a version that is there needs no room"
    del account.versions[POLICY.arn]["v1"]
    anew = rules.undo(done, MANY.role, {POLICY.arn})
    assert look(account, anew).full == ""
    account.versions[POLICY.arn]["v6"] = "{}"
    assert look(account, anew).full == "P may have 5 versions"
    account.inline["Theirs"] = "x" * 10_230
    assert look(account, back).full == "the role's inline policies may have 10,240 characters together"


def test_a_copy_that_somebody_else_uses_is_left_to_them() -> None:
    account, _, back = done_and_undone()
    copy = "arn:aws:iam::123456789012:policy/refine/Refine-Shared"
    policies = {s.policy_arn: account.policy(s.policy_arn) for s in back}
    for used in ({"attachments": 2}, {"boundary_uses": 1}, {"versions": ("v1", "v2")}):
        mine = policies | {copy: replace(account.policy(copy), **used)}
        kinds = [s.kind for s in rules.ahead(back, account.role(), mine).todo if s.policy_arn == copy]
        assert kinds == [StepKind.DETACH]


def test_a_policy_that_others_use_by_now_is_not_rolled_back_under_them() -> None:
    account, _, back = done_and_undone()
    policies = {s.policy_arn: account.policy(s.policy_arn) for s in back}
    for used, names in (({"attachments": 1}, []), ({"attachments": 2}, ["P"]), ({"boundary_uses": 1}, ["P"])):
        mine = policies | {POLICY.arn: replace(account.policy(POLICY.arn), **used)}
        assert [d.name for d in rules.ahead(back, account.role(), mine).overtaken] == names


def test_a_version_that_is_in_force_is_not_deleted_by_a_rollback() -> None:
    account, _, back = done_and_undone()
    last = [s for s in back if s.kind is StepKind.DELETE_VERSION]
    assert look(account, tuple(last)).todo == (), "v2 is, because nothing has set v1 before"


# -------------------- what AWS shows of a step

OLD, NEW, THEIRS = '{"old":1}', '{"new":1}', '{"theirs":1}'
MINE = managed("P", OLD)
S = StepKind


def step(kind: StepKind, **more: str) -> Step:
    arn = "" if kind in {S.PUT_INLINE, S.DELETE_INLINE} else MINE.arn
    texts = {"text": NEW, "before": OLD}
    if kind in {S.CREATE_POLICY, S.ATTACH}:
        texts["before"] = ""
    if kind in {S.DELETE_POLICY, S.DETACH, S.DELETE_VERSION, S.DELETE_INLINE}:
        texts["text"] = ""
    return Step(number=1, kind=kind, policy_name="P", policy_arn=arn, **{**texts, **more})


AS_OLD, AS_NEW, AS_THEIRS = (replace(MINE, text=text) for text in (OLD, NEW, THEIRS))


@pytest.mark.parametrize(
    ("one", "live", "policy", "wanted"),
    [
        (step(S.CREATE_POLICY), role(), None, "before"),
        (step(S.CREATE_POLICY), role(), AS_NEW, "after"),
        (step(S.CREATE_POLICY), role(), AS_THEIRS, "other"),
        (step(S.DELETE_POLICY), role(), None, "after"),
        (step(S.DELETE_POLICY), role(), AS_OLD, "before"),
        (step(S.DELETE_POLICY), role(), AS_THEIRS, "other"),
        (step(S.ATTACH), role(), AS_NEW, "before"),
        (step(S.ATTACH), role(AS_NEW), AS_NEW, "after"),
        (step(S.ATTACH), role(), None, "other"),
        (step(S.ATTACH), role(AS_THEIRS), AS_THEIRS, "other"),
        (step(S.ATTACH, text=""), role(), AS_THEIRS, "before"),  # of old journals: any text
        (step(S.DETACH), role(AS_OLD), AS_OLD, "before"),
        (step(S.DETACH), role(), AS_OLD, "after"),
        (step(S.DETACH), role(AS_THEIRS), AS_THEIRS, "other"),
        (step(S.DETACH), role(AS_OLD), None, "other"),
        (step(S.CREATE_VERSION), role(AS_OLD), AS_OLD, "before"),
        (step(S.CREATE_VERSION), role(AS_NEW), AS_NEW, "after"),
        (step(S.CREATE_VERSION), role(AS_THEIRS), AS_THEIRS, "other"),
        (step(S.CREATE_VERSION), role(AS_OLD), None, "other"),
        (step(S.CREATE_VERSION), role(AS_NEW), replace(AS_NEW, attachments=2), "after"),
        (step(S.SET_DEFAULT_VERSION, version="v1"), role(AS_NEW), AS_NEW, "after"),
        (step(S.SET_DEFAULT_VERSION, version="v2"), role(AS_NEW), AS_NEW, "other"),
        (step(S.SET_DEFAULT_VERSION, version="v2"), role(AS_OLD), AS_OLD, "before"),
        (step(S.DELETE_VERSION, version="v0"), role(MINE), replace(MINE, versions=("v0", "v1")), "before"),
        (step(S.DELETE_VERSION, version="v0"), role(MINE), MINE, "after"),
        (step(S.DELETE_VERSION, version="v1"), role(MINE), MINE, "other"),  # in force
        (step(S.DELETE_VERSION, version="v0"), role(MINE), None, "other"),
        (step(S.PUT_INLINE), role(inline("P", OLD)), None, "before"),
        (step(S.PUT_INLINE), role(inline("P", NEW)), None, "after"),
        (step(S.PUT_INLINE), role(inline("P", THEIRS)), None, "other"),
        (step(S.PUT_INLINE), role(inline("Q", NEW)), None, "other"),
        (step(S.PUT_INLINE, before=""), role(), None, "before"),
        (step(S.DELETE_INLINE), role(inline("P", OLD)), None, "before"),
        (step(S.DELETE_INLINE), role(), None, "after"),
        (step(S.DELETE_INLINE), role(inline("P", THEIRS)), None, "other"),
    ],
)
def test_whether_a_step_is_to_do_done_or_overtaken(
    one: Step, live: Role, policy: RolePolicy | None, wanted: str
) -> None:
    assert rules.effect(one, live, policy) == wanted


def whole(*steps: Step, kind: str = "apply") -> Change:
    numbered = tuple(replace(s, number=n) for n, s in enumerate(steps, 1))
    return replace(applied(GOOD), kind=kind, steps=numbered)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "kind", "live", "policy", "why"),
    [
        (step(S.CREATE_VERSION), "apply", role(AS_OLD), AS_OLD, ""),
        (step(S.CREATE_VERSION), "rollback", role(AS_OLD), AS_OLD, ""),
        (step(S.CREATE_VERSION), "apply", role(AS_OLD), replace(AS_OLD, attachments=2), "beyond this role"),
        (step(S.CREATE_VERSION), "rollback", role(AS_OLD), replace(AS_OLD, boundary_uses=1), "beyond this role"),
        (step(S.CREATE_VERSION), "apply", role(inline("P")), AS_OLD, "not attached to this role"),
        (step(S.SET_DEFAULT_VERSION, version="v2"), "rollback", role(AS_OLD), AS_OLD, ""),
        (step(S.SET_DEFAULT_VERSION), "rollback", role(AS_OLD), replace(AS_OLD, attachments=2), "beyond this role"),
        (step(S.SET_DEFAULT_VERSION), "rollback", role(AS_OLD), replace(AS_OLD, boundary_uses=1), "beyond this role"),
        (step(S.SET_DEFAULT_VERSION), "rollback", role(), AS_OLD, "not attached to this role"),
        (step(S.DELETE_VERSION), "apply", role(), AS_OLD, "not attached to this role"),
        (step(S.DELETE_VERSION), "apply", role(AS_OLD), replace(AS_OLD, attachments=2), "beyond this role"),
        (step(S.DELETE_VERSION), "rollback", role(), replace(AS_OLD, attachments=2), ""),  # it was Refine's own
        (step(S.DETACH), "apply", role(AS_OLD), replace(AS_OLD, attachments=2), ""),
        (step(S.ATTACH), "apply", role(), AS_OLD, ""),
    ],
)
def test_a_version_is_written_only_where_the_policy_is_this_roles_alone(
    one: Step, kind: str, live: Role, policy: RolePolicy, why: str
) -> None:
    found = rules.hindrance(whole(one, kind=kind), one, live, policy)
    assert why in found
    assert bool(why) is bool(found)


COPY = managed("Copy", NEW)
GIVE = Step(number=1, kind=S.ATTACH, policy_name="Copy", policy_arn=COPY.arn, text=NEW)


@pytest.mark.parametrize(
    ("one", "kind", "waits"),
    [
        (step(S.DETACH), "apply", True),
        (step(S.DELETE_INLINE), "apply", True),
        (step(S.CREATE_VERSION), "apply", True),
        (step(S.PUT_INLINE), "apply", True),
        (step(S.PUT_INLINE, before=""), "apply", False),
        (step(S.ATTACH), "apply", False),
        (step(S.CREATE_POLICY), "apply", False),
        (step(S.DETACH), "rollback", True),
        (step(S.DELETE_INLINE), "rollback", True),
        (step(S.SET_DEFAULT_VERSION), "rollback", False),  # gives: nothing has to be there for it
        (step(S.CREATE_VERSION), "rollback", False),
        (step(S.PUT_INLINE), "rollback", False),
        (step(S.DELETE_POLICY), "rollback", False),
    ],
)
def test_nothing_is_taken_while_what_was_given_for_it_is_not_in_force(one: Step, kind: str, waits: bool) -> None:
    change = whole(GIVE, one, kind=kind)
    taking = change.steps[1]
    assert rules.hindrance(change, taking, role(AS_OLD, COPY), AS_OLD) == ""
    for live in (role(AS_OLD), role(AS_OLD, replace(COPY, text=THEIRS))):
        found = rules.hindrance(change, taking, live, AS_OLD)
        assert found.startswith("Copy is not in force any more" if waits else "")
        assert bool(found) is waits


def test_what_an_earlier_step_took_need_not_be_there_and_later_steps_do_not_count() -> None:
    put = step(S.PUT_INLINE)
    gone = Step(number=2, kind=S.DELETE_INLINE, policy_name="P", before=NEW)
    change = whole(put, gone, step(S.DETACH), GIVE)
    assert rules.hindrance(change, change.steps[2], role(AS_OLD), AS_OLD) == ""


# -------------------- what is never touched


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"path": "/aws-service-role/ecs.amazonaws.com/"}, "service-linked"),
        ({"path": "/aws-reserved/sso.amazonaws.com/"}, "reserved"),
        ({"name": "AWSReservedSSO_Admin_1"}, "Identity Center"),
        ({"name": "OrganizationAccountAccessRole"}, "organization"),
        ({"name": "AWSControlTowerExecution"}, "Control Tower"),
        ({"name": "stacksets-exec-1"}, "StackSets"),
        ({"name": "cdk-hnb659fds-deploy-role"}, "CDK"),
        ({"tags": (("refine:protected", "true"),)}, "tag"),
        ({"stack": "shop"}, "stack shop"),
        ({"name": "prod-api"}, "pattern prod-"),
        ({"path": "/break/glass/"}, "pattern /break/"),
        ({"tags": (("SourceRoleTemplate", "arn"),)}, "template"),
    ],
)
def test_off_limits(more: dict[str, object], why: str) -> None:
    assert why in rules.off_limits(role(**more), Guard(patterns=("prod-*", "/break/*")))


def test_a_pattern_of_names_is_not_met_by_a_path() -> None:
    assert not rules.off_limits(role(path="/prod-eu/"), Guard(patterns=("prod-*",)))
    assert not rules.off_limits(role(path="/team/break/"), Guard(patterns=("/break/*",)))


def test_an_ordinary_role_may_be_touched() -> None:
    assert not rules.off_limits(role(tags=(("refine:protected", "false"),)), Guard(patterns=("prod-*",)))


def test_off_limit_tables_are_whole() -> None:
    # Every pair of state and event is either in the table or refused with a sentence: none ends in a traceback.
    for state, event in itertools.product(CaseState, Event):
        try:
            rules.after(case(state), event)
        except LostRaceError as error:
            assert error.sentence.startswith("Too late: ")
