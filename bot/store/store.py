"""The store: every fact that matters, each change of state in one transaction with its audit entry and its messages."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import wraps
from typing import Any, Final, ParamSpec, Self, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from bot import rules
from bot.errors import LimitError, LostRaceError, NotAllowedError, NotFoundError, StaleError, StoreError
from bot.model import (
    Approval,
    AuditEntry,
    Case,
    CaseId,
    CaseState,
    Change,
    ChangeId,
    Finding,
    Proposal,
    ProposalId,
    Role,
    Step,
    StepState,
    Tally,
    UserId,
)
from bot.rules import Event, Team
from bot.store import audit, database, dump, outbox, postgres, rows
from bot.store.codec import encode
from bot.store.database import Database
from bot.store.place import Place
from bot.store.schema import approvals, cases, changes, flags, journal, kv, proposals
from bot.store.schema import audit as audit_table
from bot.store.schema import outbox as outbox_table

T = TypeVar("T")
P = ParamSpec("P")

# What `move` may set beside the state: fields of Case.
_UPDATES: Final = frozenset(
    {
        "role",
        "evidence",
        "proposal",
        "approvals_needed",
        "asked_by",
        "reason",
        "sentence",
        "until",
        "resume",
        "task",
    }
)
_PRESS_AGAIN: Final = "Press the button on the card as it is now."


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """A step of a change, how far it got, and the version id that it made."""

    step: Step
    state: StepState
    made: str


def _whole(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Run a method at the store's place (see `place`), to its end even where its caller is cancelled meanwhile.

    The caller waits for it, then goes: a cancelled call would leave its connection, and with it SQLite's one write
    lock, to the garbage collector.
    """

    @wraps(method)
    async def call(*args: P.args, **options: P.kwargs) -> T:
        store = cast("Store", args[0])
        task = store.place.run(method(*args, **options))
        store.calls.add(task)
        task.add_done_callback(store.over)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise

    return call


class Store:
    """Everything that Refine remembers. Made by `open`.

    Methods raise StoreError where the database is away, full or locked, and then nothing was recorded; NotFoundError
    for an id that is not there; LostRaceError, with a sentence saying who was first, for whoever comes second.
    """

    def __init__(
        self,
        place: Place,
        database: Database,
        audit_key: bytes,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self.place = place
        self._database = database
        self._turn = asyncio.Lock()  # there is one writer at a time: waiting here is cheaper and fairer
        self._own = asyncio.Lock()  # for the bot's own work, which goes one by one, and so never far ahead of people
        self._key = audit_key
        self._clock = clock
        self._new_id = new_id
        self.calls: set[asyncio.Future[Any]] = set()  # under way
        self._rows = rows.Rows()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        audit_key: bytes,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        alone: bool = True,
        patience: float = 30.0,
    ) -> AsyncIterator[Self]:
        """Open the database of `url`, made or migrated where needed; see `database.connected`.

        `clock` and `new_id` are called from another thread.
        """
        with Place() as place:
            opening = database.connected(url, alone=alone, patience=patience)
            store = cls(place, await place.run(opening.__aenter__()), audit_key, clock, new_id)
            try:
                yield store
            finally:
                if store.calls:  # their callers did not wait
                    await asyncio.wait(store.calls)
                await place.run(opening.__aexit__(None, None, None))

    @property
    def shared(self) -> bool:
        """Whether other processes may be at work on the database too."""
        return self._database.writer.dialect.name == "postgresql"

    def over(self, call: asyncio.Future[Any]) -> None:
        self.calls.discard(call)
        if not call.cancelled():
            call.exception()  # whoever was cancelled does not want it, and it is no news to the event loop

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncConnection]:
        with database.errors():
            async with self._database.reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncConnection]:
        with database.errors():
            own = nullcontext() if audit.REQUEST.get() else self._own
            async with own, self._turn, self._database.writer.begin() as connection:
                await self._in_term(connection)
                yield connection
                await database.tell(connection, "")

    async def _in_term(self, connection: AsyncConnection) -> None:
        term = _TERM.get()
        if term and await connection.scalar(sa.select(kv.c.value).where(kv.c.key == _LEADER)) != term:
            raise StoreError(
                "Another replica of Refine has taken over this work, so nothing was recorded.",
                "The card shows where it stands in a moment.",
            )

    @_whole
    async def lead(self, term: str) -> None:
        """Begin a term of this process as the leader: whatever is under way of an earlier term writes no more."""
        async with self._write() as connection:
            await _put(connection, kv.c.key, _LEADER, term)

    @contextmanager
    def during(self, term: str) -> Iterator[None]:
        """Take writes from this context (and the tasks begun in it) only while the term lasts."""
        token = _TERM.set(term)
        try:
            yield
        finally:
            _TERM.reset(token)

    @contextmanager
    def of_request(self, request: str) -> Iterator[None]:
        """Note Slack's id of a request in every audit entry that this context (and the tasks begun in it) makes."""
        token = audit.REQUEST.set(request)
        try:
            yield
        finally:
            audit.REQUEST.reset(token)

    @_whole
    async def tell(self, what: str) -> None:
        """Let all replicas hear of it."""
        with database.errors():
            async with self._database.writer.connect() as connection:
                await database.tell(connection, what)
                await connection.commit()

    @asynccontextmanager
    async def _audited(self) -> AsyncIterator[tuple[AsyncConnection, audit.Chain]]:
        async with self._write() as connection:
            yield connection, await audit.Chain.hold(connection, self._key)

    # -------------------- cases

    @_whole
    async def case(
        self, case_id: CaseId, *, proposal_id: ProposalId | None = None, change_id: ChangeId | None = None
    ) -> Case:
        """Return the case, with an older proposal or change of its own instead of the latest where one is named."""
        async with self._read() as connection:
            return await self._rows.case(connection, case_id, proposal_id=proposal_id, change_id=change_id)

    @_whole
    async def state(self, case_id: CaseId) -> CaseState:
        """Return where the case stands, and no more: asked before each write."""
        async with self._read() as connection:
            row = await connection.scalar(sa.select(cases.c.state).where(cases.c.id == case_id))
        return CaseState(_there(row, "case"))

    @_whole
    async def case_of_role(self, role_arn: str) -> Case | None:
        async with self._read() as connection:
            return await self._rows.case_of_role(connection, role_arn)

    @_whole
    async def cases(
        self,
        states: Collection[CaseState] | None = None,
        search: str = "",
        limit: int = 50,
        offset: int = 0,
        *,
        light: bool = False,
        oldest: bool = False,
    ) -> tuple[Case, ...]:
        """Return a page of cases, the one that moved last first.

        Args:
            states: only cases in one of these.
            search: only cases with this in the role's ARN (so in its name or account too), in upper or lower case;
                roles of exactly that name come first.
            limit: most cases to return.
            offset: how many to pass over.
            light: for lists: without role, evidence, proposal, approvals and change.
            oldest: the one that has not moved for the longest time first.
        """
        order: list[Any] = [cases.c.updated_at if oldest else cases.c.updated_at.desc(), cases.c.id]
        wanted = rows.columns(light=light)
        if states is not None:
            wanted = wanted.where(cases.c.state.in_([s.value for s in states]))
        if search:
            wanted = wanted.where(cases.c.role_arn.icontains(search, autoescape=True))
            order.insert(0, cases.c.role_arn.iendswith(f"/{search}", autoescape=True).desc())
        async with self._read() as connection:
            page = (await connection.execute(wanted.order_by(*order).limit(limit).offset(offset))).all()
            return await self._rows.cases(connection, page, light=light)

    @_whole
    async def counts(self) -> Mapping[CaseState, int]:
        """Return how many cases are in each state; every state is there."""
        async with self._read() as connection:
            found = {
                CaseState(state): number
                for state, number in await connection.execute(
                    sa.select(cases.c.state, sa.func.count()).group_by(cases.c.state)
                )
            }
        return {state: found.get(state, 0) for state in CaseState}

    @_whole
    async def tally(self, since: datetime | None = None) -> Tally:
        """Return what came of the work since then, or from the beginning."""
        made = _trims(sa.func.count(), sa.func.coalesce(sa.func.sum(proposals.c.removed), 0))
        opened = sa.select(sa.func.count()).select_from(cases)
        closed = opened.where(cases.c.state.in_([s.value for s in _CLOSED]))
        backs = sa.select(sa.func.count()).where(changes.c.kind == "rollback", changes.c.outcome == DONE)
        if since is not None:
            made, backs = made.where(changes.c.at >= since), backs.where(changes.c.at >= since)
            opened, closed = opened.where(cases.c.opened_at >= since), closed.where(cases.c.updated_at >= since)
        async with self._read() as connection:
            trimmed, removed = (await connection.execute(made)).one()
            return Tally(
                opened=await connection.scalar(opened) or 0,
                closed=await connection.scalar(closed) or 0,
                trimmed=trimmed,
                removed=removed,
                rolled_back=await connection.scalar(backs) or 0,
            )

    @_whole
    async def removed_by_week(self) -> tuple[tuple[date, int], ...]:
        """Return Mondays with how many actions the changes of their week (UTC) took away, where any are in force."""
        weeks: dict[date, int] = defaultdict(int)
        async with self._read() as connection:
            for at, removed in await connection.execute(_trims(changes.c.at, proposals.c.removed)):
                weeks[at.date() - timedelta(days=at.weekday())] += removed
        return tuple(sorted(weeks.items()))

    @_whole
    async def open_case(
        self,
        *,
        role_arn: str,
        account: str,
        findings: Sequence[Finding] = (),
        role: Role | None = None,
        by: UserId,
        card: bool = True,
        channel: str,
    ) -> tuple[Case, bool]:
        """Return the role's case and whether it was made just now: there is one for each ARN, whoever asks first."""
        async with self._audited() as (connection, chain):
            known = await self._rows.case_of_role(connection, role_arn)
            if known is not None:
                return known, False
            now = self._clock()
            case = Case(
                id=CaseId(self._new_id()),
                role_arn=role_arn,
                account=account,
                state=CaseState.NEW,
                revision=1,
                opened_at=now,
                updated_at=now,
                findings=tuple(findings),
                role=role,
                channel=channel,
                asked_by=by,
            )
            await connection.execute(
                sa.insert(cases).values(
                    id=case.id,
                    role_arn=role_arn,
                    account=account,
                    opened_at=now,
                    channel=channel,
                    thread_ts="",
                    **rows.values(
                        state=case.state,
                        revision=1,
                        updated_at=now,
                        findings=case.findings,
                        role=role,
                        evidence=None,
                        approvals_needed=case.approvals_needed,
                        asked_by=by,
                        reason="",
                        sentence="",
                        task="",
                    ),
                )
            )
            await chain.append(now, by, "opened", case.id, {"role": role_arn, "findings": str(len(case.findings))})
            if card:
                await outbox.redraw(connection, now, case.id)
            return case, True

    @_whole
    async def set_findings(
        self,
        case_id: CaseId,
        findings: Sequence[Finding],
        by: UserId,
        *,
        sentence: str | None = None,
        revision: int | None = None,
    ) -> Case:
        """Note which findings the case has now. Its state and its revision stay: the buttons on its card stay good.

        Args:
            case_id: the case.
            findings: all of them.
            by: who brought it about.
            sentence: what the card has to say of it; None: what it says already.
            revision: what the case must be at; None: whatever it is at.

        Raises:
            LostRaceError: the case moved on since `revision`.
        """
        async with self._audited() as (connection, chain):
            case = await self._rows.case(connection, case_id)
            if revision is not None and revision != case.revision:
                raise LostRaceError(rules.already(case), _PRESS_AGAIN)
            case = replace(case, findings=tuple(findings), sentence=case.sentence if sentence is None else sentence)
            await connection.execute(
                sa.update(cases)
                .where(cases.c.id == case_id)
                .values(**rows.values(findings=case.findings, sentence=case.sentence))
            )
            now = self._clock()
            await chain.append(now, by, "findings", case_id, {"findings": " ".join(f.id for f in findings)})
            await outbox.redraw(connection, now, case_id, make=False)
            return case

    @_whole
    async def move(
        self,
        case_id: CaseId,
        event: Event,
        *,
        by: UserId,
        revision: int | None = None,
        detail: Mapping[str, str] | None = None,
        notes: Sequence[outbox.Note] = (),
        **updates: Any,
    ) -> Case:
        """Let an event happen to a case, and return the case after it.

        Args:
            case_id: the case.
            event: what happens; `rules.after` says which state follows.
            by: who did it; they are `asked_by` from now on, unless `updates` names another.
            revision: what the case must be at; None: whatever it is at.
            detail: more for the audit entry.
            notes: what to say about it, after the card is drawn anew.
            updates: fields of the case to set; a proposal is stored, and has no approvals yet.

        Raises:
            LostRaceError: the case moved on since `revision`, or its state does not take the event.
        """
        new: Proposal | None = updates.get("proposal")
        body = await asyncio.to_thread(encode, new) if new is not None else ""  # large: not with the database held
        async with self._audited() as (connection, chain):
            case = await self._rows.case(connection, case_id)
            if revision is not None and revision != case.revision:
                raise LostRaceError(rules.already(case), _PRESS_AGAIN)
            if new is not None:
                await connection.execute(
                    sa.insert(proposals).values(
                        id=new.id,
                        case_id=case_id,
                        revision=case.revision + 1,
                        digest=new.digest(),
                        body=body,
                        removed=new.removed,
                    )
                )
            return await self._move(connection, chain, case, event, by, detail or {}, notes, updates)

    async def _move(
        self,
        connection: AsyncConnection,
        chain: audit.Chain,
        case: Case,
        event: Event,
        by: UserId,
        detail: Mapping[str, str],
        notes: Sequence[outbox.Note],
        updates: Mapping[str, Any],
    ) -> Case:
        unknown = updates.keys() - _UPDATES
        if unknown:
            raise TypeError(f"move() cannot set {', '.join(sorted(unknown))}")
        state = rules.after(case, event)
        now = self._clock()
        new: dict[str, Any] = {
            "asked_by": by,
            **updates,
            "state": state,
            "revision": case.revision + 1,
            "updated_at": now,
        }
        moved = replace(case, **new)
        if "proposal" in new:
            proposal: Proposal | None = new.pop("proposal")
            new["proposal_id"] = proposal.id if proposal else None
            moved = replace(moved, approvals=())
        same = (cases.c.id == case.id) & (cases.c.revision == case.revision)
        row = await connection.execute(sa.update(cases).where(same).values(**rows.values(**new)))
        if row.rowcount != 1:
            raise LostRaceError(rules.already(case), _PRESS_AGAIN)
        if case.state in _WRITING:
            # A change is under way only while its case is: whatever ended the one ended the other.
            await connection.execute(
                sa.update(changes)
                .where(changes.c.case_id == case.id, changes.c.outcome == "")
                .values(outcome=event.value)
            )
            if not rules.can_roll_back(case):
                # Nothing of this change is in force, so what can be rolled back is still the one before it, if any.
                await connection.execute(
                    sa.update(cases)
                    .where(cases.c.id == case.id)
                    .values(change_id=sa.func.coalesce(_in_force(case.id), cases.c.change_id))
                )
        await chain.append(
            now,
            by,
            event.value,
            case.id,
            {"from": case.state.value, "to": state.value, "revision": str(moved.revision), **detail},
        )
        # A case that nobody was shown needs no card to say that it is over.
        await outbox.redraw(connection, now, case.id, make=event is not Event.RESOLVE)
        await outbox.queue(connection, now, notes)
        return moved

    @_whole
    async def approve(
        self,
        case_id: CaseId,
        revision: int | None,
        approval: Approval,
        *,
        team: Team,
        notes: Sequence[outbox.Note] = (),
    ) -> Case:
        """Count a person's yes to the waiting proposal; the last one needed moves the case on to APPLYING.

        A click counts on any card that showed this proposal: another approver's yes moves the revision, not the text.

        Raises:
            LostRaceError: somebody decided otherwise, or proposed anew, before.
            StaleError: the approval is of another text.
            NotAllowedError: the person said yes already.
        """
        async with self._audited() as (connection, chain):
            case = await self._rows.case(connection, case_id)
            rules.after(case, Event.APPROVE)
            if case.proposal is None:
                raise StaleError("There is no proposal waiting for approval here.", _PRESS_AGAIN)
            shown_since = await connection.scalar(
                sa.select(proposals.c.revision).where(proposals.c.id == case.proposal.id)
            )
            if revision is not None and not (shown_since or 0) <= revision <= case.revision:
                raise LostRaceError(rules.already(case), _PRESS_AGAIN)
            if (approval.proposal_id, approval.digest) != (case.proposal.id, case.proposal.digest()):
                raise StaleError("The proposal is not the one that was approved.", "Look at the one on the card.")
            if any(a.by == approval.by for a in case.approvals):
                raise NotAllowedError(
                    "You have approved this proposal already.", "Another approver has to approve it too."
                )
            await connection.execute(
                sa.insert(approvals).values(
                    proposal_id=approval.proposal_id,
                    who=approval.by,
                    digest=approval.digest,
                    at=approval.at,
                    reason=approval.reason,
                )
            )
            gives = case.proposal.gives()
            case = replace(case, approvals=(*case.approvals, approval))
            event = Event.APPROVED if rules.enough(case, case.approvals, team) else Event.APPROVE
            return await self._move(
                connection,
                chain,
                case,
                event,
                approval.by,
                {
                    "proposal": approval.digest,
                    "reason": approval.reason,
                    "approvals": str(len(case.approvals)),
                    **gives,
                },
                notes,
                {},
            )

    # -------------------- changes

    @_whole
    async def begin(self, change: Change, *, limit: int | None = None) -> Change:
        """Put a change and its planned steps on disk, and return it; where its id is there, what is there.

        Raises:
            LimitError: `limit` changes began to be applied within the last hour.
            LostRaceError: another change of the case is under way (a rollback may begin over the one that it undoes),
                or the case is not being applied (for a rollback: neither that nor rolled back).
        """
        async with self._audited() as (connection, chain):
            stored = await rows.change(connection, change.id)
            if stored is not None:
                return stored
            case = await self._rows.case(connection, change.case_id)
            other = await connection.scalar(
                sa.select(changes.c.id).where(
                    changes.c.case_id == change.case_id,
                    changes.c.outcome == "",
                    changes.c.id != (change.undoes or ""),
                )
            )
            if other is not None:
                raise LostRaceError("Another change of this role is under way.", "The card shows where it stands now.")
            if case.state not in (_WRITING if change.kind == "rollback" else {CaseState.APPLYING}):
                raise LostRaceError(rules.already(case), "The card shows where it stands now.")
            now = self._clock()
            if limit is not None:
                begun = sa.select(sa.func.count()).where(
                    changes.c.kind == "apply", changes.c.at >= now - timedelta(hours=1)
                )
                if (await connection.scalar(begun) or 0) >= limit:
                    raise LimitError(limit)
            await connection.execute(
                sa.insert(changes).values(
                    id=change.id,
                    case_id=change.case_id,
                    kind=change.kind,
                    at=change.at,
                    body=encode(change),
                    outcome="",
                )
            )
            if change.steps:
                await connection.execute(
                    sa.insert(journal),
                    [
                        {
                            "change_id": change.id,
                            "number": s.number,
                            "state": StepState.PLANNED.value,
                            "made": "",
                            "at": now,
                        }
                        for s in change.steps
                    ],
                )
            await connection.execute(sa.update(cases).where(cases.c.id == case.id).values(change_id=change.id))
            await chain.append(
                now,
                change.by,
                "begun",
                case.id,
                {
                    "change": change.id,
                    "kind": change.kind,
                    "proposal": change.proposal_id,
                    "steps": str(len(change.steps)),
                    "live": change.before.live_digest(),
                    "permissions": change.expected,
                },
            )
            await outbox.redraw(connection, now, case.id)
            return change

    @_whole
    async def change(self, change_id: ChangeId) -> Change:
        async with self._read() as connection:
            return _there(await rows.change(connection, change_id), "change")

    @_whole
    async def journal(self, change_id: ChangeId) -> tuple[JournalEntry, ...]:
        """Return the change's steps in their order."""
        async with self._read() as connection:
            change = _there(await rows.change(connection, change_id), "change")
            lines = await connection.execute(sa.select(journal).where(journal.c.change_id == change_id))
            at = {line.number: line for line in lines}
        return tuple(
            JournalEntry(step=s, state=StepState(at[s.number].state), made=at[s.number].made) for s in change.steps
        )

    @_whole
    async def mark(self, change_id: ChangeId, number: int, state: StepState, made: str = "") -> None:
        """Note how far a step got, and the version id that it made. Done and undone steps are audited."""
        async with self._audited() as (connection, chain):
            change = _there(await rows.change(connection, change_id), "change")
            step = _there(next((s for s in change.steps if s.number == number), None), "step")
            now = self._clock()
            await connection.execute(
                sa.update(journal)
                .where(journal.c.change_id == change_id, journal.c.number == number)
                .values(state=state.value, made=made, at=now)
            )
            if state in (StepState.DONE, StepState.UNDONE):
                await chain.append(
                    now,
                    rules.REFINE,
                    f"step_{state.value}",
                    change.case_id,
                    {
                        "change": change_id,
                        "step": str(number),
                        "kind": step.kind.value,
                        "policy": step.policy_arn or step.policy_name,
                        "version": made or step.version,
                    },
                )
                await outbox.redraw(connection, now, change.case_id)

    @_whole
    async def finish(self, change_id: ChangeId, outcome: str) -> None:
        """Note how a change ended; from now on another may begin."""
        async with self._audited() as (connection, chain):
            change = _there(await rows.change(connection, change_id), "change")
            row = await connection.execute(
                sa.update(changes)
                .where(changes.c.id == change_id, changes.c.outcome != outcome)
                .values(outcome=outcome)
            )
            if row.rowcount:
                await chain.append(
                    self._clock(),
                    rules.REFINE,
                    "finished",
                    change.case_id,
                    {"change": change_id, "kind": change.kind, "outcome": outcome},
                )

    @_whole
    async def changes_since(self, since: datetime) -> int:
        """Return how many changes began to be applied since; rollbacks are not counted."""
        async with self._read() as connection:
            number = await connection.scalar(
                sa.select(sa.func.count()).where(changes.c.kind == "apply", changes.c.at >= since)
            )
        return number or 0

    # -------------------- the outbox

    @_whole
    async def due(
        self,
        now: datetime,
        limit: int = 20,
        *,
        first: bool | None = None,
        cards: bool | None = None,
        but: Collection[CaseId] = (),
    ) -> tuple[outbox.Item, ...]:
        """Return what may be sent now: at most one note of each case, the longest due first.

        `first`: only what opens a thread, in the order of queueing; or only all the rest. `cards`: only cards, or only
        all but them. `but`: cases that are being drawn just now. See `outbox.due`.
        """
        async with self._read() as connection:
            waiting = (await connection.execute(outbox.due(now, limit, first=first, cards=cards, but=but))).all()
        moved = [row.id for row in waiting if row.again]
        if moved:
            async with self._write() as connection:
                await outbox.hand_out(connection, moved)
        return tuple(outbox.item(row) for row in waiting)

    @_whole
    async def queue(self, notes: Sequence[outbox.Note]) -> None:
        """Queue notes, each key once for ever; a card is drawn once more."""
        async with self._write() as connection:
            await outbox.queue(connection, self._clock(), notes)

    @_whole
    async def sending(self, item_id: int) -> None:
        """Note, before the post, that Slack may have it from now on."""
        await self._item(item_id, in_doubt=True)

    @_whole
    async def sent(self, item_id: int, channel: str, ts: str) -> None:
        """Note where it is in Slack. A case's first card is bound to the case at the same moment."""
        async with self._write() as connection:
            await outbox.done(connection, self._clock(), item_id, "sent", channel=channel, ts=ts, why="")
            row = (await connection.execute(sa.select(outbox_table).where(outbox_table.c.id == item_id))).one_or_none()
            if row is not None and row.kind == outbox.CARD and ts:
                await connection.execute(
                    sa.update(cases)
                    .where(cases.c.id == row.case_id, cases.c.thread_ts == "")
                    .values(channel=channel, thread_ts=ts)
                )
            if row is not None and row.kind == outbox.CARD:
                await database.tell(connection, outbox.CARD)

    @_whole
    async def later(self, item_id: int, at: datetime, why: str) -> None:
        """Try again at that time; the case's later notes wait for it."""
        await self._item(item_id, due_at=at, why=why, tries=outbox_table.c.tries + 1)

    @_whole
    async def dead(self, item_id: int, why: str) -> None:
        """Give up on a note; the case's later notes go on. A card is tried again when its case moves."""
        async with self._write() as connection:
            await outbox.done(connection, self._clock(), item_id, "dead", why=why)

    async def _item(self, item_id: int, **values: Any) -> None:
        async with self._write() as connection:
            await connection.execute(sa.update(outbox_table).where(outbox_table.c.id == item_id).values(**values))

    @_whole
    async def message(self, key: str) -> tuple[str, str] | None:
        """Return channel and time stamp of the note with that key, once it was sent."""
        async with self._read() as connection:
            row = (
                await connection.execute(
                    sa.select(outbox_table.c.channel, outbox_table.c.ts).where(
                        outbox_table.c.key == key, outbox_table.c.ts != ""
                    )
                )
            ).one_or_none()
        return (row.channel, row.ts) if row is not None else None

    @_whole
    async def bind_card(self, case_id: CaseId, channel: str, ts: str) -> None:
        """Note which message is the case's card, and so which thread is its own."""
        async with self._write() as connection:
            await connection.execute(
                sa.update(cases).where(cases.c.id == case_id).values(channel=channel, thread_ts=ts)
            )

    # -------------------- flags, notes to self, audit

    @_whole
    async def flag(self, name: str) -> str:
        """Return the value of a flag that people set; empty where it is not set."""
        async with self._read() as connection:
            return await connection.scalar(sa.select(flags.c.value).where(flags.c.name == name)) or ""

    @_whole
    async def set_flag(self, name: str, value: str, by: UserId, *, detail: Mapping[str, str] | None = None) -> None:
        async with self._audited() as (connection, chain):
            await _put(connection, flags.c.name, name, value)
            await chain.append(self._clock(), by, "flag", None, {**(detail or {}), "name": name, "value": value})

    @_whole
    async def remember(self, key: str, value: str) -> None:
        async with self._write() as connection:
            await _put(connection, kv.c.key, key, value)

    @_whole
    async def recall(self, key: str) -> str:
        """Return what was remembered under the key; empty where nothing was."""
        async with self._read() as connection:
            return await connection.scalar(sa.select(kv.c.value).where(kv.c.key == key)) or ""

    @_whole
    async def record(self, case_id: CaseId | None, who: UserId, what: str, detail: Mapping[str, str]) -> None:
        """Append an entry to the audit log that no change of state goes with."""
        async with self._audited() as (_, chain):
            await chain.append(self._clock(), who, what, case_id, detail)

    @_whole
    async def note(
        self,
        case: Case,
        who: UserId,
        what: str,
        detail: Mapping[str, str],
        *,
        key: str,
        was: str,
        value: str,
        notes: Sequence[outbox.Note],
    ) -> None:
        """Remember `value` under `key`, with an entry in the audit log and what is to be said, all or nothing.

        Raises:
            LostRaceError: the case moved on since it was read, or somebody else remembered something under the key
                since it was recalled as `was`.
        """
        async with self._audited() as (connection, chain):
            latest = await self._rows.case(connection, case.id)
            if latest.revision != case.revision:
                raise LostRaceError(rules.already(latest), _PRESS_AGAIN)
            if (await connection.scalar(sa.select(kv.c.value).where(kv.c.key == key)) or "") != was:
                raise LostRaceError("Somebody else pressed this button at the same moment.", "Press it again.")
            now = self._clock()
            await _put(connection, kv.c.key, key, value)
            await chain.append(now, who, what, case.id, detail)
            await outbox.queue(connection, now, notes)

    @_whole
    async def history(
        self, case_id: CaseId | None, limit: int = 50, before_seq: int | None = None
    ) -> tuple[AuditEntry, ...]:
        """Return audit entries, the newest first: of a case, or of everything for None."""
        async with self._read() as connection:
            wanted = audit.rows(connection).order_by(audit_table.c.seq.desc()).limit(limit)
            if case_id is not None:
                wanted = wanted.where(audit_table.c.case_id == case_id)
            if before_seq is not None:
                wanted = wanted.where(audit_table.c.seq < before_seq)
            return tuple(audit.entry(row) for row in await connection.execute(wanted))

    @_whole
    async def key_fits(self) -> bool:
        """Whether the audit log was written with this store's key; see `audit.fits`."""
        async with self._read() as connection:
            return await audit.fits(connection, self._key)

    @_whole
    async def verify_audit(self) -> int | None:
        """Return the number of the first audit entry that is not as it was written; None where all is whole."""
        async with self._read() as connection:
            return await audit.first_broken(connection, self._key)

    @_whole
    async def may_rewrite_audit(self) -> bool:
        """Whether this database user could change or delete audit entries; of a SQLite file, whoever can write it."""
        async with self._read() as connection:
            return not self.shared or await postgres.may_rewrite(connection)

    @_whole
    async def grant(self, role: str) -> None:
        """Give a PostgreSQL user what the bot needs; see `postgres.grant`."""
        await postgres.grant(self._database, role)

    async def dump(self) -> AsyncGenerator[str]:
        """Yield everything as JSON lines, all of one moment; see `bot.store.dump`."""
        lines = self._lines()
        try:
            while (line := await self.place.run(anext(lines, None))) is not None:
                yield line
        finally:
            await self.place.run(lines.aclose())

    async def _lines(self) -> AsyncGenerator[str]:
        async with self._read() as connection:
            async for line in dump.lines(connection):
                yield line

    @_whole
    async def load(self, lines: Iterable[str]) -> int:
        """Fill an empty store with what `dump` gave, and return the number of rows; all or nothing.

        Raises:
            StoreError: the store is not empty.
            InputError: the lines are not a whole dump of this version.
        """
        async with self._write() as connection:
            return await dump.load(connection, lines)

    @_whole
    async def ping(self) -> None:
        """Raise StoreError where the database does not answer."""
        async with self._read() as connection:
            await connection.execute(sa.select(sa.func.count()).select_from(flags))


_LEADER: Final = "leader"  # the key of the leader's term
_TERM: ContextVar[str] = ContextVar("term", default="")  # in which the work at hand was begun
DONE: Final = "done"  # the outcome of a change whose steps were all done and read back
_CLOSED: Final = (CaseState.RESOLVED, CaseState.ACCEPTED, CaseState.DONE)
_WRITING: Final = frozenset({CaseState.APPLYING, CaseState.ROLLING_BACK})


def _trims(*columns: Any) -> sa.Select[Any]:
    """Select of the changes that were applied, verified and not rolled back, with their proposals."""
    back = changes.alias("back")
    undone = sa.exists().where(
        back.c.kind == "rollback", back.c.outcome == DONE, back.c.id.startswith(changes.c.id + "-back")
    )
    return (
        sa.select(*columns)
        .select_from(changes.join(proposals, changes.c.id == proposals.c.id + "-apply"))
        .where(changes.c.kind == "apply", changes.c.outcome == DONE, ~undone)
    )


def _in_force(case_id: CaseId) -> sa.ScalarSelect[str]:
    """Select the latest change of the case of which anything was done that no rollback took back whole."""
    back = changes.alias()
    return (
        sa.select(changes.c.id)
        .select_from(changes.join(proposals, changes.c.id == proposals.c.id + "-apply"))
        .where(
            changes.c.case_id == case_id,
            sa.exists().where(journal.c.change_id == changes.c.id, journal.c.state == StepState.DONE.value),
            ~sa.exists().where(
                back.c.case_id == case_id,
                back.c.kind == "rollback",
                back.c.outcome.in_([DONE, Event.ROLLED_BACK.value]),
                back.c.id.startswith(changes.c.id.concat("-back")),
            ),
        )
        .order_by(proposals.c.revision.desc())  # not by time: a clock may be set back
        .limit(1)
        .scalar_subquery()
    )


def _there(value: T | None, what: str) -> T:
    if value is None:
        raise NotFoundError(f"There is no such {what}.", "It may be of another installation of Refine.")
    return value


async def _put(connection: AsyncConnection, key: sa.Column[str], name: str, value: str) -> None:
    row = await connection.execute(sa.update(key.table).where(key == name).values(value=value))
    if row.rowcount == 0:
        await connection.execute(sa.insert(key.table).values({key.name: name, "value": value}))
