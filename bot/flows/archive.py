"""What Access Analyzer lists follows what people decided: accepted exposures are archived there, and come back."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from bot import rules
from bot.errors import LostRaceError, NotFoundError, RefineError
from bot.flows.decide import not_paused
from bot.flows.ports import Note
from bot.flows.world import World, thread
from bot.model import Case, CaseState, Finding
from bot.rules import Event

log = structlog.get_logger()

_NOT, _STILL = "The finding was not archived", "The finding is still archived"
LAG = timedelta(minutes=10)  # that AWS's list may be behind what was asked of it


async def settle(world: World, case: Case) -> None:
    """Archive the findings of an accepted case at AWS, and make active again those of one that is so no more.

    What AWS refuses is said on the card, and tried again at the next look: nothing else waits for it.
    """
    accepted = case.state is CaseState.ACCEPTED
    wrong = [f for f in case.findings if f.status == ("ACTIVE" if accepted else "ARCHIVED")]
    if not wrong:
        return
    done: set[str] = set()
    refused: list[str] = []
    for arn in sorted({f.analyzer_arn for f in wrong}):
        some = [f for f in wrong if f.analyzer_arn == arn]
        try:
            await not_paused(world)
            await world.aws.archive(some, archived=accepted)
        except NotFoundError:
            continue  # it is gone: the next list of findings tells
        except RefineError as error:
            log.warning("findings stay as they are", case=case.id, analyzer=arn, why=error.sentence)
            refused.append(f"in {some[0].region}. {error.say()}")
        else:
            done |= {f.id for f in some}
    await _note(world, case, done, _sentence(case.sentence, refused, accepted=accepted), accepted=accepted)


def _sentence(said: str, refused: Sequence[str], *, accepted: bool) -> str:
    """Return the card's sentence: what it says of anything else, and then what did not happen at AWS."""
    for lead in (_NOT, _STILL):
        said = said.partition(lead)[0].strip()
    if not refused:
        return said
    lead = _NOT if accepted else _STILL
    return f"{said} {lead} {' '.join(dict.fromkeys(refused))} Refine tries again by itself.".strip()


async def _note(world: World, case: Case, done: Collection[str], new: str, *, accepted: bool) -> None:
    if not done and new == case.sentence:
        return
    findings = [replace(f, status="ARCHIVED" if accepted else "ACTIVE") if f.id in done else f for f in case.findings]
    try:
        await world.store.set_findings(case.id, findings, rules.REFINE, sentence=new, revision=case.revision)
    except LostRaceError:
        # Somebody decided otherwise meanwhile: what AWS did is noted as it is, and then brought in line with that.
        latest = await world.store.set_findings(case.id, findings, rules.REFINE)
        await settle(world, latest)
        return
    if done:
        what = "archived" if accepted else "unarchived"
        await world.store.record(case.id, rules.REFINE, what, {"findings": " ".join(sorted(done))})
    world.poke()


# -------------------- what a list of findings means for a case


def known(case: Case, archived: Collection[str]) -> list[Finding]:
    """Return the case's findings that AWS lists as archived, and that its acceptance archived or covers."""
    return [
        replace(f, status="ARCHIVED")
        for f in case.findings
        if f.id in archived and (f.status == "ARCHIVED" or case.state is CaseState.ACCEPTED)
    ]


def _ways(finding: Finding) -> set[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """Who may come in, on which conditions: the same in every Region, whatever the finding's id."""
    return {(p.kind.value, p.value, p.conditions) for p in finding.principals}


def back(case: Case, why: str) -> Note:
    """What the thread is told of a case that comes back: it names those who put it aside."""
    owner = str(json.loads(case.task or "{}").get("owner", ""))
    return thread(
        case.id,
        "back",
        str(case.revision),
        was=case.state.value,
        by=case.asked_by,
        owner=owner,
        reason=case.reason,
        why=why,
    )


async def seen(world: World, case: Case, active: Sequence[Finding]) -> tuple[Case, list[Finding]]:
    """Hold the active findings of a case that was put aside against those that it was put aside with.

    A way in that is new ends a snooze and an acceptance, and one that somebody made active again at AWS ends an
    acceptance: the case comes back.
    Returns the case and the findings as they are to be noted.
    """
    accepted = {f.id: f for f in case.findings}
    covered = {way for f in case.findings for way in _ways(f)}
    fresh = [f for f in active if not _ways(f) <= covered]
    again = [f for f in active if f.id in accepted and accepted[f.id].status == "ARCHIVED"]
    lagging = world.clock() - case.updated_at < LAG
    if fresh:
        what = "acceptance" if case.state is CaseState.ACCEPTED else "snooze"
        why = f"Access Analyzer found another way in, which ends the {what}: it does not cover that."
    elif again and not lagging:
        why = "Its finding was made active again at AWS, which ends the acceptance."
    else:
        return case, [accepted[f.id] if f in again else f for f in active]
    try:
        case = await world.store.move(
            case.id,
            Event.REOPEN,
            by=rules.REFINE,
            revision=case.revision,
            sentence=why,
            reason="",
            until=None,
            notes=[back(case, why)],
        )
    except LostRaceError:
        case = await world.store.case(case.id)  # somebody ended it already
    return case, list(active)
