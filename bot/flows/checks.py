"""The checks around a change: AWS's own word before and after it, and the checker's proof on what is in force then.

Where AWS does not answer, nothing is blocked; which checks were made, and which were not and why, is kept with the
change, so that whoever takes over after a crash tells the truth too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from bot.errors import PolicyError, ProofError, RefineError, StoreError
from bot.flows.world import World, patience
from bot.model import (
    Change,
    ChangeId,
    Checked,
    Outcome,
    PolicyKind,
    PolicyOutcome,
    Proof,
    Proposal,
    Role,
    RolePolicy,
    Verdict,
)
from bot.policy import check, prove

VALIDATE = "ValidatePolicy"
NEW_ACCESS = "CheckNoNewAccess"
PROOF = "Refine's checker"
SIMULATE = "SimulatePrincipalPolicy"
_ALARM = "Propose again and keep it by hand, and please report this: Refine's own proof said otherwise."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What is kept with a change; `allowed`: what AWS's simulator allowed before it, None where it did not answer."""

    checks: tuple[Checked, ...] = ()
    allowed: tuple[str, ...] | None = None


def _key(change_id: ChangeId) -> str:
    return f"checks/{change_id}"


async def _read(world: World, change_id: ChangeId) -> _Record | None:
    kept = await world.store.recall(_key(change_id))
    if not kept:
        return None
    found = json.loads(kept)
    allowed = found["allowed"]
    return _Record(
        checks=tuple(Checked(**each) for each in found["checks"]), allowed=None if allowed is None else tuple(allowed)
    )


async def _keep(world: World, change_id: ChangeId, record: _Record) -> None:
    await world.store.remember(_key(change_id), json.dumps(asdict(record), sort_keys=True))


async def made(world: World, change_id: ChangeId) -> tuple[Checked, ...]:
    """Return the checks of a change, in the order to show them; empty for one of a Refine that made none yet."""
    record = await _read(world, change_id)
    return record.checks if record is not None else ()


def in_words(checks: Sequence[Checked]) -> str:
    """Return the checks as one line for the audit log."""
    return "; ".join(f"{c.name}: {c.said}" if c.made else f"{c.name} not made: {c.said}" for c in checks)


async def proof(
    world: World, proposal: Proposal, before: Sequence[RolePolicy], after: tuple[PolicyOutcome, ...]
) -> Proof:
    """Let the checker prove the documents `after` against the policies `before`; a give-back's against the snapshot
    of the change that it is of, too.
    """
    back = proposal.give_back
    if back is None:
        return await asyncio.to_thread(check, before, after, proposal.must_keep(), world.catalogue)
    change = await world.store.change(back.change)
    made = replace(proposal.trim, policies=after)
    return await asyncio.to_thread(prove, change.before.policies, before, made, back)


async def _bounds(world: World, proposal: Proposal, role: Role) -> dict[str, RolePolicy]:
    """Return, by the source of each new document, the old one that it must not go beyond."""
    back = proposal.give_back
    if back is None:
        return {p.key: p for p in role.policies}
    change = await world.store.change(back.change)
    snapshot = {p.key: p for p in change.before.policies}
    return {source: snapshot[key] for source, key in back.origin}


# -------------------- before the first write


async def before(world: World, change_id: ChangeId, proposal: Proposal, role: Role) -> None:
    """Ask AWS about the documents, and what the used actions get as long as the old ones are in force.

    Asked once for each change: the documents are those of its proposal, whenever it begins.

    Raises:
        PolicyError, ProofError: AWS finds an error, or new access: nothing may be written.
    """
    if await _read(world, change_id) is not None:
        return
    old = await _bounds(world, proposal, role)
    new: dict[str, list[str]] = {}
    for each in proposal.trim.policies:
        if each.text is not None and each.outcome is not Outcome.UNCHANGED:
            new.setdefault(each.source, []).append(each.text)
    found: list[Checked] = []
    # Of one that a give-back brings back as it was, or leaves as it is, IAM has the text already.
    texts = [o.text for o in proposal.trim.policies if o.text is not None and o.tier]
    if texts:
        found.append(await _each(VALIDATE, [partial(_no_fault, world, text) for text in texts], "finds no error in"))
    if new:
        if world.settings.refine_check_no_new_access:
            asking = [partial(_nothing_new, world, old[source], whole(parts)) for source, parts in new.items()]
            found.append(await _each(NEW_ACCESS, asking, "finds no new access in"))
        else:
            found.append(Checked(name=NEW_ACCESS, made=False, said="REFINE_CHECK_NO_NEW_ACCESS is off."))
    allowed: tuple[str, ...] | None = None
    used = _used(proposal)
    if used:
        try:
            answer = await world.aws.simulate(role.arn, used)
        except StoreError:
            raise
        except RefineError as error:
            found.append(Checked(name=SIMULATE, made=False, said=error.sentence))
        else:
            allowed = tuple(a for a in used if answer[a].allowed)
    await _keep(world, change_id, _Record(checks=tuple(found), allowed=allowed))


async def _each(name: str, asking: Sequence[Callable[[], Awaitable[None]]], finds: str) -> Checked:
    """Ask one thing after another. The first that gets no answer ends it: the next would get none either."""
    for number, ask in enumerate(asking):
        try:
            await ask()
        except (PolicyError, ProofError, StoreError):
            raise
        except RefineError as error:
            some = f"{number} of {len(asking)} passed, then: " if number else ""
            return Checked(name=name, made=False, said=f"{some}{error.sentence}")
    many = "the new document" if len(asking) == 1 else f"the {len(asking)} new documents"
    return Checked(name=name, made=True, said=f"AWS {finds} {many}.")


async def _no_fault(world: World, text: str) -> None:
    faults = await world.aws.faults(text)
    if faults:
        raise PolicyError(f"AWS finds an error in a new document, so it was not written: {faults[0]}", "Propose again.")


async def _nothing_new(world: World, old: RolePolicy, new: str) -> None:
    reasons = await world.aws.new_access(old.text, new)
    if reasons:
        raise ProofError(
            f"AWS says that the new {old.name} would grant what the old one does not, so it was not written: "
            f"{reasons[0]}",
            "Please report this: Refine's own proof said otherwise.",
        )


def whole(parts: Sequence[str]) -> str:
    """Return the documents that replace one policy as a single one: a Deny counts wherever it stands."""
    if len(parts) == 1:
        return parts[0]
    documents = [json.loads(text) for text in parts]
    statements = []
    for each in documents:
        listed = each["Statement"] if isinstance(each["Statement"], list) else [each["Statement"]]
        # An id has to be unique within a document, and says nothing.
        statements += [{k: v for k, v in s.items() if k != "Sid"} for s in listed]
    return json.dumps({**documents[0], "Statement": statements}, separators=(",", ":"))


def _used(proposal: Proposal) -> list[str]:
    return sorted(a.action for a in proposal.trim.actions if a.verdict is Verdict.USED)


# -------------------- after the last one


async def after(world: World, change: Change, proposal: Proposal, role: Role) -> tuple[Checked, ...]:
    """Prove what is in force now, as just read, and ask AWS again what the used actions get; returns all the checks.

    Raises:
        ProofError: a used action is lost, or something is granted anew: the change has to be taken back.
    """
    record = await _read(world, change.id) or _Record()
    shown = await proof(world, proposal, change.before.policies, as_written(proposal, role))
    if not shown.holds:
        raise ProofError(
            f"The proof does not hold on what is in force after the writes: {'; '.join(shown.problems[:3])}.",
            _ALARM,
        )
    found = [
        Checked(
            name=PROOF,
            made=True,
            said="On the documents in force now, nothing is granted anew and nothing used is lost."
            if proposal.give_back is None
            else "On the documents in force now, what was named is back, and nothing else.",
        )
    ]
    if record.allowed is not None:
        found.append(await _simulated(world, change, _used(proposal), record.allowed))
    names = {c.name for c in found}
    checks = (*(c for c in record.checks if c.name not in names), *found)
    await _keep(world, change.id, replace(record, checks=checks))
    return checks


async def _simulated(world: World, change: Change, used: Sequence[str], allowed: Sequence[str]) -> Checked:
    """Compare with what was allowed before: what was denied then too may just need a resource or a condition."""
    pauses = patience(world)
    while True:
        try:
            answer = await world.aws.simulate(change.role_arn, used)
        except StoreError:
            raise
        except RefineError as error:
            return Checked(name=SIMULATE, made=False, said=f"Asked before the change only: {error.sentence}")
        denied = [a for a in allowed if not answer[a].allowed]
        lost = [a for a in denied if not answer[a].beyond]
        # The simulator reads what IAM's other servers know, which may be behind the write.
        pause = next(pauses, None) if lost else None
        if pause is None:
            break
        await world.sleep(pause)
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ProofError(
            f"AWS's simulator allowed {lost[0]}{more}, which the role uses, before the change and denies it after it.",
            _ALARM,
        )
    fine = sum(answer[a].allowed for a in used)
    said = f"AWS allows {fine} of {len(used)} used actions, and none that it allowed before is denied."
    beyond = [answer[a].beyond for a in used if answer[a].beyond]
    for what in sorted(set(beyond)):
        said += f" The {what} denies {beyond.count(what)} of them, whatever the role's own policies say."
    if fine + len(beyond) < len(used):
        said += f" On {len(used) - fine - len(beyond)} it cannot tell without a resource or a condition."
    return Checked(name=SIMULATE, made=True, said=said)


def as_written(proposal: Proposal, role: Role) -> tuple[PolicyOutcome, ...]:
    """Return the proposal's outcomes with the texts that the role has in truth: what is missing goes without one."""
    left = list(role.policies)
    outcomes = []
    for each in proposal.trim.policies:
        if each.text is None:
            outcomes.append(each)
            continue
        same = [p for p in left if p.name == each.name and (p.kind is PolicyKind.INLINE) == _inline(each)]
        same.sort(key=lambda p: p.text != each.text)
        if same:
            left.remove(same[0])
        text = same[0].text if same else None
        outcomes.append(
            replace(each, text=text) if text is not None else replace(each, text=None, outcome=Outcome.REMOVED)
        )
    extra = (
        PolicyOutcome(
            name=p.name, kind=p.kind, source="", outcome=Outcome.TRIMMED, tier=0, text=p.text, characters=len(p.text)
        )
        for p in left
    )
    return (*outcomes, *extra)


def _inline(outcome: PolicyOutcome) -> bool:
    return outcome.kind is PolicyKind.INLINE
