"""A whole Refine in this process, for pressing its buttons: real desk, flows, store, messages, handlers and outbox.

Only AWS is a stand-in: roles in a dictionary, with inline policies that its writes really change.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiohttp import web
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp

from bot import rules
from bot.aws import Simulated
from bot.config import Settings
from bot.durable import Engine
from bot.errors import NoEvidenceError, NotFoundError, RefusedError
from bot.flows import Desk, World, drive, homes, post, propose
from bot.flows.ports import Sleep
from bot.messages.slack import Slack, web_client
from bot.model import (
    ActionUse,
    Approval,
    Case,
    CaseId,
    CaseState,
    Change,
    ChangeId,
    Evidence,
    ExternalPrincipal,
    Finding,
    PolicyKind,
    PrincipalKind,
    Proposal,
    ProposalId,
    Role,
    RolePolicy,
    ServiceUse,
    Step,
    StepKind,
    StepState,
    UserId,
    permissions_digest,
)
from bot.policy import load_catalogue, trim
from bot.rules import Event
from bot.store import Store
from bot.store.schema import outbox
from handlers import Jobs, register, warm_up
from handlers.http import signed_requests
from sandbox.slack import LocalSlack, seeds
from tests.store.world import ask

HUB, SECURITY = "123456789012", "C0SECURITY"
ANN, BEN, RITA, GUS, STAN, DORA, ROBO = "U0ANN", "U0BEN", "U0RITA", "U0GUS", "U0STAN", "U0DORA", "U0ROBO"
PIA, NED, UMA, OTTO, FLO = "U0PIA", "U0NED", "U0UMA", "U0OTTO", "U0FLO"
MORE = {
    PIA: {},  # an approver, who makes every proposal
    NED: {},  # a member of the workspace, in no list
    UMA: {"is_restricted": True, "is_ultra_restricted": True},
    OTTO: {"team_id": seeds.OTHER_TEAM},
    FLO: {"is_workflow_bot": True},
}
GROUP = [ANN, BEN, PIA, GUS, UMA, STAN, OTTO, DORA, ROBO, FLO]  # who is in it and may not act is refused all the same


def now() -> datetime:
    return datetime.now(UTC)


def document(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)


OLD = document("dynamodb:CreateTable", "dynamodb:DeleteTable", "dynamodb:DescribeTable")


def role_of(name: str, text: str = OLD) -> Role:
    return Role(
        arn=f"arn:aws:iam::{HUB}:role/{name}",
        name=name,
        account=HUB,
        path="/",
        role_id=f"AROA{name.upper()}",
        created_at=now() - timedelta(days=500),
        trust_text=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"AWS": "arn:aws:iam::999988887777:root"},
                        "Action": "sts:AssumeRole",
                    }
                ],
            }
        ),
        policies=(RolePolicy(name="Tables", kind=PolicyKind.INLINE, text=text),),
        read_at=now(),
    )


def findings_of(arn: str) -> tuple[Finding, ...]:
    return (
        Finding(
            id=f"f-{arn}",
            analyzer_arn=f"arn:aws:access-analyzer:us-east-1:{HUB}:analyzer/refine",
            region="us-east-1",
            role_arn=arn,
            account=HUB,
            status="ACTIVE",
            principals=(ExternalPrincipal(kind=PrincipalKind.ACCOUNT, value="999988887777"),),
            created_at=now() - timedelta(days=40),
            updated_at=now() - timedelta(days=1),
        ),
    )


def evidence_of(role: Role) -> Evidence:
    seen = ActionUse(action="DescribeTable", last_accessed=now() - timedelta(hours=14), region="us-east-1")
    idle = (ActionUse(action="CreateTable"), ActionUse(action="DeleteTable"))
    dynamodb = ServiceUse(
        namespace="dynamodb",
        name="Amazon DynamoDB",
        last_accessed=seen.last_accessed,
        region="us-east-1",
        actions=(*idle, seen),
    )
    return Evidence(services=(dynamodb,), made_at=now(), role_arn=role.arn, role_created_at=role.created_at)


@dataclass(frozen=True, kw_only=True)
class Read:
    findings: tuple[Finding, ...] = ()
    archived: tuple[Finding, ...] = ()
    problems: tuple[str, ...] = ()
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class Made:
    version: str = ""


@dataclass
class SmallAws:
    """flows.ports.Aws over a dictionary."""

    there: dict[str, Role] = field(default_factory=dict)
    read: Read = field(default_factory=Read)
    held: dict[str, asyncio.Event] = field(default_factory=dict)  # reads of these roles wait
    blind: set[str] = field(default_factory=set)  # no report of these can be had
    locked: set[str] = field(default_factory=set)  # writes to these are refused
    writes: list[Step] = field(default_factory=list)
    shelved: dict[str, str] = field(default_factory=dict)  # finding ids with the status asked for last

    async def findings(self) -> Read:
        return self.read

    async def role(self, arn_or_name: str, account: str | None = None) -> Role:
        arn = arn_or_name if arn_or_name.startswith("arn:") else f"arn:aws:iam::{account or HUB}:role/{arn_or_name}"
        if arn in self.held:
            await self.held[arn].wait()
        if arn not in self.there:
            raise NotFoundError("AWS knows no such role.")
        return replace(self.there[arn], read_at=now())

    async def archive(self, findings: Sequence[Finding], *, archived: bool) -> None:
        status = "ARCHIVED" if archived else "ACTIVE"
        self.shelved |= {f.id: status for f in findings}

    async def roles(self) -> Sequence[Role]:
        return list(self.there.values())

    async def policy(self, arn: str, *, role_arn: str) -> RolePolicy | None:
        return None

    async def evidence(self, role: Role) -> Evidence:
        if role.arn in self.blind:
            raise NoEvidenceError("IAM did not finish the report.", "Press Retry later.")
        return evidence_of(role)

    async def write(self, permit: rules.Permit, step: Step, last: Callable[[], Awaitable[None]]) -> Made:
        assert permit.covers(step)
        await last()
        if permit.role_arn in self.locked or step.kind is not StepKind.PUT_INLINE:
            raise RefusedError(f"This AWS does not take {step.kind}.")
        self.writes.append(step)
        self.put(permit.role_arn, step.text)
        return Made()

    def put(self, arn: str, text: str) -> None:
        [policy] = self.there[arn].policies
        self.there[arn] = replace(self.there[arn], policies=(replace(policy, text=text),))

    async def room(self, role_arn: str) -> int | None:
        return None

    async def validate(self, text: str) -> tuple[str, ...]:
        return ()

    async def faults(self, text: str) -> tuple[str, ...]:
        return ()

    async def new_access(self, old: str, new: str) -> tuple[str, ...]:
        return ()

    async def simulate(self, role_arn: str, actions: Sequence[str]) -> dict[str, Simulated]:
        return {a: Simulated(allowed=True) for a in actions}


@dataclass(kw_only=True)
class House:
    there: LocalSlack
    slack: Slack
    store: Store
    aws: SmallAws
    world: World
    desk: Desk
    jobs: Jobs
    engine: Engine
    pump: asyncio.Task[None]
    url: str = ""
    requests: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)  # as Slack signed them
    made: Proposal | None = None
    number: int = 0

    # -------------------- waiting

    async def quiet(self, seconds: float = 20) -> None:
        """Wait until no handler and no flow runs, and all is said that there is to say."""
        waiting = sa.select(sa.func.count()).where(outbox.c.state == "waiting")
        async with asyncio.timeout(seconds):
            while True:
                await self.jobs.drain(seconds)
                if not self.engine._running and not await ask(self.store, waiting):
                    return
                await asyncio.sleep(0.02)

    async def cut(self) -> None:
        """End the outbox in the middle of whatever it does, as a crash would."""
        self.pump.cancel()
        await asyncio.wait([self.pump])

    # -------------------- cases in a state, without the walk there

    async def case_in(self, state: CaseState, *, in_force: bool = True) -> Case:
        """Make a role with a case in the state, as the flows would leave it, with its messages in Slack.

        `in_force` is for FAILED: whether the change is in force, unverified, or was taken back.
        """
        self.number += 1
        role = role_of(f"Role{self.number:04}")
        self.aws.there[role.arn] = role
        case, _ = await self.store.open_case(
            role_arn=role.arn,
            account=HUB,
            findings=findings_of(role.arn),
            role=role,
            by=rules.REFINE,
            channel=SECURITY,
        )
        if state is CaseState.RESOLVED:  # over before it has a card, it would never get one
            self.world.poke()
            await self.until_drawn(case.id)
        for event, more in self._way(state, case, role, in_force):
            if event is Event.APPROVED:
                case = await self._approve(case)
            elif event in _CHANGES:
                case = await self._change(case, event, **more)
            else:
                case = await self.store.move(case.id, event, **{"by": rules.REFINE, **more})
        assert case.state is state
        self.world.poke()
        await self.until_drawn(case.id)
        return await self.store.case(case.id)

    def _way(self, state: CaseState, case: Case, role: Role, in_force: bool) -> list[tuple[Event, dict[str, Any]]]:
        s, e = CaseState, Event
        work = (e.PROPOSE, {"by": UserId(RITA), "task": '{"do": "propose"}', "resume": s.NEW})
        proposal = self.proposal(case, role)
        proposed = (
            e.PROPOSED,
            {
                "asked_by": UserId(PIA),
                "role": role,
                "evidence": proposal.evidence,
                "proposal": proposal,
                "until": now() + timedelta(hours=24),
                "notes": [propose.thread(case.id, "proposal", proposal.id, proposal=proposal.id)],
            },
        )
        waiting = [work, proposed]
        applying = [*waiting, (e.APPROVED, {})]
        watching = [*applying, (e.APPLIED, {})]
        rolling = [*watching, (e.ROLL_BACK, {"by": UserId(BEN)})]
        later = {"by": UserId(ANN), "until": now() + timedelta(days=7)}
        return {
            s.NEW: [],
            s.WORKING: [work],
            s.CANNOT_TELL: [work, (e.CANNOT_TELL, {"sentence": "IAM did not finish the report."})],
            s.NOTHING: [work, (e.NOTHING_TO_TRIM, {"sentence": "Nothing to trim."})],
            s.WAITING: waiting,
            s.STALE: [*waiting, (e.WENT_STALE, {"sentence": "The role's policies changed."})],
            s.APPLYING: applying,
            s.WATCHING: watching,
            s.DONE: [*watching, (e.WATCH_ENDED, {})],
            s.ROLLING_BACK: rolling,
            s.ROLLED_BACK: [*rolling, (e.ROLLED_BACK, {})],
            s.FAILED: [*applying, (e.APPLY_FAILED, {"in_force": in_force})],
            s.DECLINED: [*waiting, (e.DECLINE, {"by": UserId(BEN)})],
            s.EXPIRED: [*waiting, (e.EXPIRE, {})],
            s.SNOOZED: [(e.SNOOZE, later)],
            s.ACCEPTED: [(e.ACCEPT, {**later, "reason": "Meant to be so."})],
            s.RESOLVED: [(e.RESOLVE, {})],
        }[state]

    def proposal(self, case: Case, role: Role) -> Proposal:
        if self.made is None:  # trimmed once: every role here has the same policy
            settings = self.world.trim_settings(quotas=role.quotas)
            evidence = evidence_of(role)
            self.made = Proposal(
                id=ProposalId(""),
                case_id=CaseId(""),
                role=role,
                evidence=evidence,
                settings=settings,
                trim=trim(role.policies, evidence, self.world.catalogue, settings),
                proposed_by=UserId(PIA),
                proposed_at=now(),
            )
        return replace(self.made, id=ProposalId(f"{case.id}-1"), case_id=case.id, role=role, proposed_at=now())

    async def _approve(self, case: Case) -> Case:
        assert case.proposal is not None
        yes = Approval(proposal_id=case.proposal.id, digest=case.proposal.digest(), by=UserId(ANN), at=now())
        return await self.store.approve(case.id, case.revision, yes, team=await self.world.team())

    async def _change(self, case: Case, event: Event, *, in_force: bool = True) -> Case:
        proposal = case.proposal
        assert proposal is not None
        if not in_force:
            return await self.store.move(case.id, event, by=rules.REFINE, sentence="AWS refused it.")
        if event is Event.ROLLED_BACK:
            undone = case.change
            assert undone is not None
            steps = rules.undo([(s, "") for s in undone.steps], undone.before)
            change = replace(
                undone,
                id=ChangeId(f"{undone.id}-back"),
                kind="rollback",
                steps=steps,
                expected=permissions_digest(undone.before.policies),
                undoes=undone.id,
            )
            text = OLD
        else:
            steps = rules.plan(proposal, proposal.role)
            change = Change(
                id=ChangeId(f"{proposal.id}-apply"),
                case_id=case.id,
                proposal_id=proposal.id,
                kind="apply",
                role_arn=proposal.role.arn,
                steps=steps,
                by=UserId(ANN),
                at=now(),
                before=proposal.role,
                expected=rules.expected(proposal.role, steps),
            )
            text = steps[0].text
        await self.store.begin(change)
        self.aws.put(change.role_arn, text)
        for step in steps:
            await self.store.mark(change.id, step.number, StepState.DONE)
        await self.store.finish(change.id, "done")
        name = {Event.APPLIED: "applied", Event.ROLLED_BACK: "rolled_back"}.get(event)
        return await self.store.move(
            case.id,
            event,
            by=rules.REFINE,
            role=self.aws.there[change.role_arn],
            sentence="" if name else "Reading back shows other policies.",
            until=now() + timedelta(days=3),
            notes=[propose.thread(case.id, name, change.id, change=change.id)] if name else [],
        )

    # -------------------- looking

    async def until_drawn(self, case_id: CaseId) -> None:
        """Wait until Slack shows all that the store has to say of the case."""
        waiting = sa.select(sa.func.count()).where(outbox.c.state == "waiting", outbox.c.case_id == case_id)
        async with asyncio.timeout(10):
            while True:
                if not await ask(self.store, waiting):
                    return
                await asyncio.sleep(0.01)

    def card(self, case: Case) -> dict[str, Any]:
        message = self.there.workspace.find(SECURITY, case.thread_ts)
        assert message is not None, "the case has no card"
        return message

    def told(self, user: str) -> str:
        """All that only this person was told: ephemerally, in a dialog, directly."""
        direct = self.there.workspace.messages.get("D" + user[1:], [])
        return json.dumps([self.there.ephemerals(user), self.there.view(user), direct], ensure_ascii=False)

    def forget(self, user: str) -> None:
        """Close and clear what only this person sees."""
        workspace = self.there.workspace
        workspace.stacks.pop(user, None)
        workspace.ephemerals[:] = [e for e in workspace.ephemerals if e["viewer"] != user]
        workspace.messages.pop("D" + user[1:], None)


_CHANGES = {Event.APPLIED, Event.ROLLED_BACK, Event.APPLY_FAILED}


def people(there: LocalSlack) -> None:
    """Bring in the kinds of people that the seeds lack, and put everybody into the approvers' group who should not be."""
    for user, flags in MORE.items():
        name = user[2:].lower()
        there.workspace.users[user] = seeds._user(user, name, name.title(), "", "member", **flags)
        for channel in there.workspace.channels.values():
            channel["members"].add(user)
    there.workspace.groups[seeds.APPROVERS]["users"] = list(GROUP)


@asynccontextmanager
async def workspace() -> AsyncIterator[LocalSlack]:
    there = LocalSlack()
    await there.start()
    people(there)
    try:
        yield there
    finally:
        await there.stop()


@asynccontextmanager
async def built(folder: Path, way: str) -> AsyncIterator[House]:
    """Put the house up, as bot.app does, with Slack's clicks coming in over Socket Mode ("socket") or signed HTTP."""
    async with workspace() as there, lived_in(folder, there, SmallAws(), way) as house:
        yield house


@asynccontextmanager
async def lived_in(
    folder: Path,
    there: LocalSlack,
    aws: SmallAws,
    way: str = "socket",
    *,
    spacing: float = 0.0,
    sleep: Sleep = asyncio.sleep,
    **more: Any,
) -> AsyncIterator[House]:
    """Start Refine in a workspace that is there already; `more` are settings. At the end it stops, or `cut` is its end."""
    async with AsyncExitStack() as stack:
        environment = there.bot_environment(way)
        settings = Settings(
            **{
                "slack_bot_token": environment["SLACK_BOT_TOKEN"],
                "refine_channel": SECURITY,
                "refine_approvers": seeds.APPROVERS,
                "refine_settle_seconds": 0.2,
                "refine_changes_per_hour": 1000,
                "refine_data_dir": folder,
                **more,
            }
        )
        store = await stack.enter_async_context(
            Store.open(settings.database_url(), audit_key=b"key", clock=now, new_id=_ids())
        )
        client = await stack.enter_async_context(
            web_client(environment["SLACK_BOT_TOKEN"], environment["SLACK_API_URL"], sleep=sleep)
        )
        slack = Slack(client, now, asyncio.sleep, spacing=spacing, group_seconds=300 if spacing else 0)
        engine, jobs = Engine(), Jobs()
        world = World(
            store=store,
            aws=aws,
            slack=slack,
            engine=engine,
            settings=settings,
            catalogue=load_catalogue(),
            clock=now,
            new_id=_ids(),
            sleep=sleep,
            workspace=await slack.team_id(),
        )
        engine.register("work", lambda key: propose.work(world, CaseId(key)))
        engine.register("drive", lambda key: drive.drive(world, CaseId(key)))
        app = AsyncApp(
            client=client,
            signing_secret=environment.get("SLACK_SIGNING_SECRET"),
            request_verification_enabled=way == "http",
            raise_error_for_unhandled_request=True,
        )
        desk = Desk(world)
        register(app, desk, jobs, slack)
        await warm_up(app)
        await engine.start()
        stack.push_async_callback(engine.stop, 5.0)
        stop = asyncio.Event()
        pump = asyncio.create_task(post.pump(world, stop=stop))
        kept = asyncio.create_task(homes.keep(world, stop=stop))
        house = House(
            there=there,
            slack=slack,
            store=store,
            aws=aws,
            world=world,
            desk=desk,
            jobs=jobs,
            engine=engine,
            pump=pump,
        )

        async def end() -> None:
            stop.set()
            world.poke()
            await asyncio.wait([pump, kept])

        stack.push_async_callback(end)
        stack.push_async_callback(jobs.drain, 5)
        if way == "http":
            house.url = await _serve(stack, app, house)
            there.deliver_to(house.url)
        else:
            for _ in range(2):
                socket = AsyncSocketModeHandler(app, environment["SLACK_APP_TOKEN"], ping_interval=5)
                await socket.connect_async()
                stack.push_async_callback(socket.close_async)
        yield house


def _ids() -> Any:
    return lambda: uuid.uuid4().hex[:12]


async def _serve(stack: AsyncExitStack, app: AsyncApp, house: House) -> str:
    @web.middleware
    async def keep(request: web.Request, handler: Any) -> web.StreamResponse:
        house.requests.append((await request.read(), dict(request.headers)))
        return await handler(request)

    web_app = web.Application(middlewares=[keep])
    signed_requests(web_app, app, clock=now)
    runner = web.AppRunner(web_app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/slack/events"
