"""The table of states under random events by random people: nothing stuck, and no write without enough valid approvals."""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, replace

import pytest

from bot import rules
from bot.errors import LostRaceError, NotAllowedError
from bot.model import Approval, Case, CaseState, Change, ChangeId, Person, Proposal, ProposalId, UserId
from bot.rules import REFINE, Button, Event, Team
from tests.test_rules import AT, applied, case, managed, outcome, person, proposal, role

PEOPLE = (
    person("UANN"),
    person("UBEN"),
    person("UCAT"),
    person("UDAN"),
    person("UGUS", guest=True),
    person("UBOT", bot=True),
    person("UDEL", deleted=True),
    replace(person("UOUT"), team="T2"),
)
LEADS = {b: e for b, e in rules.LEADS.items() if b is not Button.APPROVE}  # a yes is counted: see `Walk.approve`
# What comes from the bot's own work, its clock and AWS; what a person does comes by a button.
OWN = frozenset(Event) - frozenset(LEADS.values()) - {Event.APPROVE, Event.APPROVED} | {Event.REOPEN}
WRITES = {CaseState.APPLYING, CaseState.ROLLING_BACK}
FINE = {"UANN", "UBEN", "UCAT", "UDAN"}


@dataclass
class Walk:
    """One case as the store and the flows would move it, by `rules` alone."""

    team: Team
    case: Case
    proposals: int = 0
    in_force: bool = False  # by our own count: something of a change is at AWS
    stopped: bool = False  # what is rolled back is a change that was under way

    def press(self, who: Person, button: Button, on: Proposal | None) -> None:
        """Press a button as it was drawn with the proposal `on`, which may be an old one."""
        if button is Button.APPROVE:
            self.approve(who, on)
        elif button in LEADS:
            rules.may(who, button, self.case, self.team)
            under_way = self.case.state is CaseState.APPLYING
            if LEADS[button] is Event.ROLL_BACK and not under_way and not rules.can_roll_back(self.case):
                raise NotAllowedError("nothing to roll back")
            if LEADS[button] is Event.ROLL_BACK:
                assert who.id in FINE & self.team.approvers
            self.move(LEADS[button], who.id)

    def approve(self, who: Person, on: Proposal | None) -> None:
        rules.may(who, Button.APPROVE, self.case, self.team)
        rules.after(self.case, Event.APPROVE)
        if (
            on is None
            or self.case.proposal is None
            or on.digest() != self.case.proposal.digest()
            or on.id != self.case.proposal.id
        ):
            raise LostRaceError("another text")
        yes = Approval(proposal_id=on.id, digest=on.digest(), by=who.id, at=AT)
        approvals = (*self.case.approvals, yes)
        enough = rules.enough(self.case, approvals, self.team)
        self.move(Event.APPROVED if enough else Event.APPROVE, who.id, approvals=approvals)

    def move(self, event: Event, by: UserId, **more: object) -> None:
        old = self.case
        state = rules.after(old, event)
        if event in {Event.REVIEW, Event.PROPOSE}:
            more["resume"] = old.resume if old.state is CaseState.WORKING else old.state
        if event is Event.PROPOSED:
            self.proposals += 1
            policy = managed("P", f'{{"n":{self.proposals}}}')
            new = replace(
                proposal(role(policy), outcome(policy, f'{{"t":{self.proposals}}}'), by=old.asked_by),
                id=ProposalId(f"p{self.proposals}"),
            )
            more |= {"proposal": new, "approvals": (), "asked_by": old.asked_by}
        if event in {Event.APPLIED, Event.APPLY_FAILED}:
            assert old.proposal is not None
            whole = event is Event.APPLIED
            more |= {"change": applied(old.proposal), "steps_done": 1 if whole else 0}
            self.in_force = whole or (self.in_force and rules.can_roll_back(replace(old, **more)))
        if event is Event.ROLL_BACK:
            self.stopped = old.state is CaseState.APPLYING
        if event is Event.WITHDRAWN and not self.stopped:
            raise LostRaceError("it began")
        if event is Event.ROLLED_BACK and not self.stopped:
            assert old.change is not None
            more |= {"change": _back(old.change), "steps_done": 0}
            self.in_force = False
        self.case = replace(old, state=state, revision=old.revision + 1, **{"asked_by": by, **more})
        if state is CaseState.APPLYING and old.state is not CaseState.APPLYING:
            self._approved_well()

    def _approved_well(self) -> None:
        """Said once more, and differently: enough people, each an approver, none the proposer, all of this text."""
        p = self.case.proposal
        assert p is not None
        yes = {a.by for a in self.case.approvals if (a.proposal_id, a.digest) == (p.id, p.digest())}
        assert yes <= self.team.approvers & FINE
        assert not self.team.four_eyes or p.proposed_by not in yes
        assert len(yes) >= max(1, self.team.needed)


def _back(change: Change) -> Change:
    return replace(change, id=ChangeId(f"{change.id}-back"), kind="rollback", undoes=change.id, steps=())


def _team(dice: random.Random) -> Team:
    approvers = ("UANN", "UBEN") if dice.random() < 0.7 else [p.id for p in PEOPLE if dice.random() < 0.4]
    return Team(
        workspace="T1",
        approvers=frozenset(map(UserId, approvers)),
        needed=dice.choice((0, 1, 1, 2, 3)),
        four_eyes=dice.random() < 0.7,
    )


Act = Event | tuple[Person, Button, bool]


def _act(walk: Walk, dice: random.Random) -> Act:
    chance = dice.random()
    if chance < 0.15:
        return dice.choice(sorted(OWN))
    if chance < 0.4:
        return dice.choice(PEOPLE), dice.choice(list(Button)), dice.random() < 0.5
    return _next(walk, dice)


def _next(walk: Walk, dice: random.Random) -> Act:
    """Return something that the state takes: chance alone would seldom get far."""
    state = walk.case.state
    if state in {CaseState.WORKING, CaseState.WAITING} and dice.random() < 0.5:
        return (dice.choice(PEOPLE[:3]), Button.APPROVE, False) if state is CaseState.WAITING else Event.PROPOSED
    takes: list[Act] = [e for e in sorted(OWN) if (state, e) in rules.TRANSITIONS]
    takes += [(who, b, False) for b, e in LEADS.items() if (state, e) in rules.TRANSITIONS for who in PEOPLE[:2]]
    return dice.choice(takes)


def test_no_sequence_of_events_writes_without_approval_or_gets_stuck() -> None:
    met: Counter[CaseState] = Counter()
    for seed in range(2500):
        dice = random.Random(seed)
        walk = Walk(_team(dice), case(CaseState.NEW, asked_by=REFINE))
        shown: Proposal | None = None  # on somebody's old card
        for _ in range(60):
            before = walk.case
            act = _act(walk, dice)
            try:
                if isinstance(act, Event):
                    walk.move(act, REFINE)
                else:
                    who, button, old_card = act
                    walk.press(who, button, shown if old_card else before.proposal)
            except (LostRaceError, NotAllowedError):
                assert walk.case == before, "a refused act changes nothing"
                continue
            met[walk.case.state] += 1
            if before.proposal is not None and walk.case.proposal is not before.proposal:
                shown = before.proposal
            assert _goes_on(walk.case.state), seed
            if walk.in_force:
                assert _may_come_back(walk.case), f"{seed}: in {walk.case.state} the way back is lost"
    assert min(met[s] for s in CaseState) > 50, met


def _goes_on(state: CaseState) -> bool:
    """Something leads out of it: a button for people, or the bot's own next step."""
    by_people = any((state, LEADS[b]) in rules.TRANSITIONS for b in rules.BUTTONS[state] if b in LEADS)
    return by_people or any((state, e) in rules.TRANSITIONS for e in OWN)


def _may_come_back(at: Case) -> bool:
    if at.state in rules.BUSY | {CaseState.WAITING}:
        return True  # it ends, or can be declined, and is then looked at again
    return Button.ROLL_BACK in rules.buttons(at)


def test_every_state_is_reached_from_a_new_case_and_leads_back_to_one() -> None:
    ahead = {s: {t for (f, _), t in rules.TRANSITIONS.items() if f is s} for s in CaseState}
    assert _reach(CaseState.NEW, ahead) == set(CaseState)
    for state in CaseState:
        assert CaseState.NEW in _reach(state, ahead), state


def test_what_is_under_way_is_ended_by_the_bot_alone() -> None:
    """No person's event takes a case out of the states in which the bot writes: there is no half-way stop."""
    for (state, event), then in rules.TRANSITIONS.items():
        if state in rules.BUSY:
            assert event in OWN or then in WRITES, (state, event)
    for state in rules.BUSY:
        assert {e for s, e in rules.TRANSITIONS if s is state} & OWN


@pytest.mark.parametrize("state", CaseState)
@pytest.mark.parametrize("event", Event)
def test_an_event_that_a_state_does_not_take_is_a_lost_race_with_a_sentence(state: CaseState, event: Event) -> None:
    at = case(state, asked_by=UserId("UBEN"))
    if (state, event) in rules.TRANSITIONS:
        assert rules.after(at, event) is rules.TRANSITIONS[state, event]
    else:
        with pytest.raises(LostRaceError, match=r"Too late: <@UBEN> .* at \d\d:\d\d UTC"):
            rules.after(at, event)


def _reach(start: CaseState, ahead: dict[CaseState, set[CaseState]]) -> set[CaseState]:
    found, queue = {start}, deque([start])
    while queue:
        for state in ahead[queue.popleft()] - found:
            found.add(state)
            queue.append(state)
    return found
