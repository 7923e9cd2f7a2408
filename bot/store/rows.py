"""Cases put together from their rows, and taken apart into them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.errors import NotFoundError
from bot.model import (
    Approval,
    Case,
    CaseId,
    CaseState,
    Change,
    ChangeId,
    Digest,
    Evidence,
    Finding,
    Proposal,
    ProposalId,
    Role,
    StepState,
    UserId,
)
from bot.store.codec import decode, encode
from bot.store.schema import approvals, cases, changes, journal, proposals

Findings = tuple[Finding, ...]

_HEAVY: Final = ("role", "evidence")
_JSON: Final = frozenset({"findings", *_HEAVY})
_KEPT: Final = 32  # proposals kept in memory


class Rows:
    """Reads cases. It keeps the last proposals that it read: see `_proposals`."""

    def __init__(self) -> None:
        self._kept: dict[str, Proposal] = {}  # by id, the first read first

    async def case(
        self,
        connection: AsyncConnection,
        case_id: CaseId,
        *,
        proposal_id: ProposalId | None = None,
        change_id: ChangeId | None = None,
    ) -> Case:
        rows = (await connection.execute(columns(light=False).where(cases.c.id == case_id))).all()
        if not rows:
            raise NotFoundError("There is no such case.", "It may be of another installation of Refine.")
        (case,) = await self.cases(connection, rows, proposal_id=proposal_id, change_id=change_id)
        if (proposal_id and (case.proposal is None or case.proposal.case_id != case_id)) or (
            change_id and (case.change is None or case.change.case_id != case_id)
        ):
            raise NotFoundError("There is no such proposal or change.", "The card shows the latest.")
        return case

    async def case_of_role(self, connection: AsyncConnection, role_arn: str) -> Case | None:
        rows = (await connection.execute(columns(light=False).where(cases.c.role_arn == role_arn))).all()
        return (await self.cases(connection, rows))[0] if rows else None

    async def cases(
        self,
        connection: AsyncConnection,
        rows: Sequence[Any],
        *,
        light: bool = False,
        proposal_id: ProposalId | None = None,
        change_id: ChangeId | None = None,
    ) -> tuple[Case, ...]:
        """Return the cases of these rows, with what belongs to them; light: without what does not fit a list."""
        if light:
            return tuple(_case(row) for row in rows)
        proposal_ids = {row.id: proposal_id or row.proposal_id for row in rows}
        change_ids = {row.id: change_id or row.change_id for row in rows}
        theirs = await self._proposals(connection, {i for i in proposal_ids.values() if i})
        under_way = await _changes(connection, {i for i in change_ids.values() if i})
        yes = await _approvals(connection, theirs)
        done = await _done(connection, under_way)
        return tuple(
            replace(
                _case(row),
                role=decode(Role, row.role) if row.role else None,
                evidence=decode(Evidence, row.evidence) if row.evidence else None,
                proposal=theirs.get(proposal_ids[row.id]),
                approvals=tuple(yes[proposal_ids[row.id]]),
                change=under_way.get(change_ids[row.id]),
                steps_done=done.get(change_ids[row.id], 0),
            )
            for row in rows
        )

    async def _proposals(self, connection: AsyncConnection, ids: Collection[str]) -> dict[str, Proposal]:
        # An administrator's takes megabytes and half a second to read, and every click needs it. Its row never changes,
        # so what was once read stays good; only rows that are there are kept, never one about to be written.
        found = {i: self._kept[i] for i in ids if i in self._kept}
        missing = [i for i in ids if i not in found]
        if missing:
            wanted = sa.select(proposals.c.id, proposals.c.body).where(proposals.c.id.in_(missing))
            for row in (await connection.execute(wanted)).all():
                found[row.id] = await asyncio.to_thread(decode, Proposal, row.body)
            self._kept.update({i: found[i] for i in missing if i in found})
            while len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return found


def values(**fields: Any) -> dict[str, Any]:
    """Return column values of the cases table for fields of a Case."""
    return {
        k: encode(v) if k in _JSON and v is not None else v.value if isinstance(v, CaseState) else v
        for k, v in fields.items()
    }


def columns(*, light: bool) -> sa.Select[Any]:
    return sa.select(*(c for c in cases.c if not light or c.name not in _HEAVY))


def _case(row: Any) -> Case:
    return Case(
        id=CaseId(row.id),
        role_arn=row.role_arn,
        account=row.account,
        state=CaseState(row.state),
        revision=row.revision,
        opened_at=row.opened_at,
        updated_at=row.updated_at,
        findings=decode(Findings, row.findings),
        approvals_needed=row.approvals_needed,
        channel=row.channel,
        thread_ts=row.thread_ts,
        asked_by=UserId(row.asked_by),
        reason=row.reason,
        sentence=row.sentence,
        until=row.until,
        resume=CaseState(row.resume) if row.resume else None,
        task=row.task,
    )


async def change(connection: AsyncConnection, change_id: ChangeId) -> Change | None:
    return (await _changes(connection, [change_id])).get(change_id)


async def _changes(connection: AsyncConnection, ids: Collection[str]) -> dict[str, Change]:
    if not ids:  # of most cases: each statement less is a wait less for the one write lock
        return {}
    rows = await connection.execute(sa.select(changes.c.id, changes.c.body).where(changes.c.id.in_(list(ids))))
    return {row.id: decode(Change, row.body) for row in rows}


async def _approvals(connection: AsyncConnection, proposal_ids: Collection[str]) -> dict[str, list[Approval]]:
    found: dict[str, list[Approval]] = defaultdict(list)
    if not proposal_ids:
        return found
    wanted = sa.select(approvals).where(approvals.c.proposal_id.in_(list(proposal_ids)))
    for row in await connection.execute(wanted.order_by(approvals.c.at, approvals.c.who)):
        found[row.proposal_id].append(
            Approval(
                proposal_id=row.proposal_id,
                digest=Digest(row.digest),
                by=UserId(row.who),
                at=row.at,
                reason=row.reason,
            )
        )
    return found


async def _done(connection: AsyncConnection, change_ids: Collection[str]) -> dict[str, int]:
    if not change_ids:
        return {}
    rows = await connection.execute(
        sa.select(journal.c.change_id, sa.func.count())
        .where(journal.c.change_id.in_(list(change_ids)), journal.c.state == StepState.DONE.value)
        .group_by(journal.c.change_id)
    )
    return {row[0]: row[1] for row in rows}
