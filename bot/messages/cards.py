"""The card: door, room and footprints of one role on one screen, and where its case stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bot import rules
from bot.messages import door, parts, sums, words
from bot.messages.render import Payload, render
from bot.messages.text import Mrk, code, listed, many, mention, mrk, some, when
from bot.model import Case, CaseState, PolicyKind, Role, UserId
from bot.policy import Permits
from bot.rules import Team

_IN_FORCE = frozenset({CaseState.WATCHING, CaseState.DONE})
_NAMED = 8  # approvers
_OWNERS = frozenset({"owner", "team", "contact"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Card:
    role: str
    account: str
    case_id: str
    state: Mrk
    sentence: str
    reason: str
    door: list[Mrk]
    room: list[Mrk]
    did: list[Mrk]
    facts: Mrk
    approval: Mrk
    offered: tuple[parts.Press, ...]


def card(
    case: Case,
    now: datetime,
    summary: Permits | None,
    *,
    counts: sums.Counts | None = None,
    window_days: int | None = None,
    team: Team | None = None,
    owned_by: UserId | None = None,
) -> Payload:
    """Draw the card of a case as it stands.

    `counts` is what became known of the role's actions where no proposal holds it, as of a window of so many days;
    `team` says whose approval is needed; `owned_by` is the person whom the owner's tag names. Slack tells them when the
    card is posted, and never when it is redrawn.
    """
    return render(
        "card",
        _Card(
            role=case.role_name,
            account=case.account,
            case_id=case.id,
            state=words.state_line(case, now),
            sentence=case.sentence,
            reason=case.reason,
            door=_door(case),
            room=_room(case, summary),
            did=_did(case, counts, window_days),
            facts=_facts(case, owned_by),
            approval=approval(case, team) if case.state is CaseState.WAITING else Mrk(""),
            offered=parts.offered(case),
        ),
    )


def _door(case: Case) -> list[Mrk]:
    said = door.lines_of(door.ways(case))
    if not case.findings:
        said.append(mrk("Access Analyzer lists no active finding for this role."))
    return said


def _room(case: Case, summary: Permits | None) -> list[Mrk]:
    if summary is None:
        return [mrk("The role could not be read yet.")]
    said = [mrk("This role {}.", summary.worst)]
    if summary.granted:
        said.append(mrk("It is granted {} of {}.", many(summary.granted, "action"), _services(summary)))
    if summary.unread:
        said.append(mrk("⚠️ Not counted, because it cannot be read: {}.", some([code(n) for n in summary.unread], 3)))
    if case.role:
        said.append(mrk("Granted by {}.", policies(case.role)))
    if case.role and case.role.boundary_arn:
        said.append(mrk("Its permissions boundary {} bounds all that.", code(case.role.boundary_arn)))
    return said


def _services(summary: Permits) -> Mrk:
    if len(summary.services) == 1:
        return code(summary.services[0][0], 40)
    most = [mrk("{} {}", code(name, 40), count) for name, count in summary.services]
    return mrk("{}: {}", many(len(most), "service"), some(most, 5))


def _did(case: Case, counts: sums.Counts | None, window_days: int | None) -> list[Mrk]:
    said = _counted(case, counts, window_days)
    last = [_last_used(case.role)] if case.role else []
    if case.evidence:
        last.append(mrk("Last accessed report of {}.", when(case.evidence.made_at)))
    elif case.role and case.state is CaseState.NEW:
        last.append(mrk("Which permissions it used is not read yet."))
    if last:
        said.append(Mrk(" ".join(last)))
    if case.change and case.state not in {*_IN_FORCE, *rules.BUSY, CaseState.FAILED} and rules.can_roll_back(case):
        said.append(mrk("The change of {} is in force, and can be rolled back.", when(case.change.at)))
    return said


def _counted(case: Case, counts: sums.Counts | None, window_days: int | None) -> list[Mrk]:
    proposal = case.proposal
    if proposal and case.state in _IN_FORCE:
        return [
            tally(sums.Counts.of(proposal.trim.actions), proposal.settings.window_days),
            mrk("{} removed, {} kept.", many(proposal.trim.removed, "action"), proposal.trim.kept),
        ]
    if proposal and case.role and proposal.live_digest == case.role.live_digest():
        return [tally(sums.Counts.of(sums.live(proposal)), proposal.settings.window_days)]
    if counts:
        return [tally(counts, window_days)]
    if case.evidence:
        used = [s for s in case.evidence.services if s.last_accessed]
        return [mrk("{} of {} used.", len(used), many(len(case.evidence.services), "service"))]
    return []


def tally(counts: sums.Counts, window_days: int | None) -> Mrk:
    """Say the three honest counts, and the rest where there is one; they add up to what is granted."""
    said = [
        mrk("*{} used* in the last {}", counts.used, many(window_days, "day"))
        if window_days
        else mrk("*{} used*", counts.used),
        mrk("*{} not used*", counts.unused),
        mrk("*{} cannot be known*", counts.hidden),
    ]
    if counts.no_call:
        said.append(mrk("{} without an API call of their own", counts.no_call))
    if counts.protected:
        said.append(mrk("{} kept by settings or by hand", counts.protected))
    return Mrk(" · ".join(said))


def _facts(case: Case, owned_by: UserId | None) -> Mrk:
    """Where it is, since when it is open, whose it is: a line."""
    role = case.role
    path = mrk(" {}", code(role.path)) if role and role.path != "/" else Mrk("")
    said = [mrk("Account {}{}", code(case.account), path)]
    if case.findings:
        regions = sorted({f.region for f in case.findings})
        since = min(f.created_at for f in case.findings)
        count = mrk("{} Regions: ", len(regions)) if len(regions) > 1 else Mrk("")
        said.append(mrk("found {} in {}{}", when(since), count, some([code(r) for r in regions], 5)))
    if role:
        whose = owner(role)
        if whose:
            said.append(mrk("owner {}", mention(owned_by) if owned_by else code(whose)))
        if role.stack:
            said.append(mrk("CloudFormation stack {}", code(role.stack)))
    return Mrk(" · ".join(said))


def owner(role: Role | None) -> str:
    """Return the owner that a tag of the role names."""
    return next((v for k, v in role.tags if k.lower() in _OWNERS), "") if role else ""


def _last_used(role: Role) -> Mrk:
    if role.last_used_at is None:
        # IAM looks back 400 days: https://docs.aws.amazon.com/IAM/latest/APIReference/API_RoleLastUsed.html
        return mrk("The role was not used in the last 400 days.")
    where = mrk(" in {}", code(role.last_used_region)) if role.last_used_region else Mrk("")
    return mrk("The role was last used {}{}.", when(role.last_used_at), where)


def policies(role: Role) -> Mrk:
    """Name the role's policies by kind."""
    if not role.policies:
        return mrk("none")
    said = []
    for kind in (PolicyKind.CUSTOMER, PolicyKind.AWS, PolicyKind.INLINE):
        names = [_policy(p.name, p.attachments, kind) for p in role.policies if p.kind is kind]
        if names:
            said.append(mrk("{} {}", some(names, 4), words.KINDS[kind]))
    return Mrk("; ".join(said))


def _policy(name: str, attachments: int, kind: PolicyKind) -> Mrk:
    shared = kind is PolicyKind.CUSTOMER and attachments > 1
    return mrk("{} (shared with {} more)", code(name), attachments - 1) if shared else code(name)


def approval(case: Case, team: Team | None) -> Mrk:
    """Say whose yes is needed."""
    proposal = case.proposal
    if proposal is None:
        return Mrk("")
    given = words.approved_by(case)
    so_far = mrk(" Approved so far by {}.", given) if given else Mrk("")
    needed = max(1, case.approvals_needed - len(case.approvals))
    missing = many(needed, "more approval" if given else "approval")
    if team is None:
        return mrk("Needs {} by people set up as approvers.{}", missing, so_far)
    barred = proposal.proposed_by if team.four_eyes else UserId("")
    able = sorted(team.approvers - {a.by for a in case.approvals} - {barred})
    if not able:
        return mrk("Needs {}, and nobody is set up who could give it: see `REFINE_APPROVERS`.", missing)
    return mrk(
        "Needs {} by {}.{}{}",
        missing,
        listed([mention(u) for u in able], "or") if len(able) <= _NAMED else some([mention(u) for u in able], _NAMED),
        mrk(" {} proposed it, so somebody else has to approve.", mention(barred))
        if barred in team.approvers
        else Mrk(""),
        so_far,
    )
