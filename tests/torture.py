"""The proof that a change cannot go wrong: `python -m tests.torture --trials 300` (`make torture TRIALS=300`).

Real bot processes, with the real store, gateway, flows and rules, change and roll back roles of the local AWS. They are
killed by kill -9 at random calls, writes fail before and after their effect or lose their reply, reads lag, are
throttled and fail, and somebody else edits the role meanwhile. At every write: it takes no action in use away from the
role, and nothing at all from another one. After each trial: the role is exactly as approved or exactly as before, or
the card says what is in force; no document is lost; no write had its effect twice; nobody's edit was overwritten; the
audit chain is whole. The last line printed is one JSON object; exit status 1 on any violation.

What cannot be kept: IAM has no compare-and-set. An edit that arrives after the bot's last read of the very document, and
before its write, is seen by nobody; such edits are counted apart, as `unseeable`. Edits after its very last read of the
thing, when all is written and verified, are `late`: they stay, and are the next proposal's business.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bot.flows import decide, drive
from bot.model import Case, CaseId, CaseState, Change, Outcome, PolicyKind, Proposal
from bot.store.codec import decode
from sandbox.aws import LocalAws, start
from sandbox.aws.front import Front
from sandbox.aws.iam import Iam
from sandbox.aws.policy import names, statements
from sandbox.aws.state import default_text, documents_of
from tests import lives, postgres
from tests.lives import BEN, HUB

LIFE_SECONDS = 240.0  # a life that takes longer is stuck
WRITES = frozenset(
    {
        "CreatePolicy", "CreatePolicyVersion", "DeletePolicyVersion", "SetDefaultPolicyVersion", "AttachRolePolicy",
        "DetachRolePolicy", "PutRolePolicy", "DeleteRolePolicy", "DeletePolicy",
    }
)  # fmt: skip
SQS = "arn:aws:iam::aws:policy/AmazonSQSFullAccess"
KINESIS = "arn:aws:iam::aws:policy/AmazonKinesisReadOnlyAccess"
OTHER = "arn:aws:iam::aws:policy/AmazonSNSReadOnlyAccess"
ENGINES = ("sqlite", "postgresql")
PARTS = ("aws", "aws_gone", "shared", "own", "full", "inline", "inline_gone")
STEPS = {"aws": 3, "aws_gone": 1, "shared": 3, "own": 1, "full": 2, "inline": 1, "inline_gone": 1}
BACK = {**STEPS, "own": 2}  # writes of the rollback: a version is set and another deleted, and nothing makes room

_context = multiprocessing.get_context("forkserver")
# A child imports the main module, this one, anew: what that imports in turn must be there already.
_context.set_forkserver_preload(["tests.lives", "tests.torture"])


def document(*actions: str) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}


def role_of(parts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the role to change and the one beside it, in the words of the sandbox's world."""
    role: dict[str, Any] = {
        "createdDaysAgo": 500,
        "trust": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::999988887777:root"}, "Action": "sts:AssumeRole"}
            ],
        },
        "managed": {},
        "attached": [],
        "inline": {},
        "used": {},
    }
    beside: dict[str, Any] = {"createdDaysAgo": 500, "trust": role["trust"], "attached": [], "inline": {}}
    for part in parts:
        match part:
            case "aws":
                role["attached"].append(SQS)
                role["used"]["sqs:ListQueues"] = {"daysAgo": 2}
            case "aws_gone":
                role["attached"].append(KINESIS)
            case "shared":
                role["managed"]["Shared"] = {"versions": [{"id": "v1", "document": document("dynamodb:*")}]}
                beside["attached"].append("Shared")
                role["used"]["dynamodb:DescribeTable"] = {"daysAgo": 3}
            case "own":
                role["managed"]["Own"] = {"versions": [{"id": "v1", "document": document("lambda:*")}]}
                role["used"]["lambda:ListFunctions"] = {"daysAgo": 4}
            case "full":
                versions = [{"id": f"v{n}", "document": document("rds:*", f"rds:Describe{n}*")} for n in range(3, 8)]
                role["managed"]["Full"] = {"versions": versions}
                role["used"]["rds:DescribeDBInstances"] = {"daysAgo": 5}
            case "inline":
                role["inline"]["Trails"] = document("cloudtrail:*")
                role["used"]["cloudtrail:DescribeTrails"] = {"daysAgo": 6}
            case _:
                role["inline"]["Zones"] = document("route53:ListHostedZones", "route53:GetHostedZone")
    return {"Victim": role, "Beside": beside}


# -------------------- between the bot and AWS


@dataclass
class Call:
    """A call that AWS acted upon, in the order of acting."""

    operation: str
    params: dict[str, Any]
    effect: bool

    def key(self) -> str:
        text = json.dumps([self.operation, self.params], sort_keys=True, default=str)
        return f"{self.operation} {hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass
class Moment:
    """What the account looks like right before or after a write."""

    allowed: set[str]  # of the actions that Victim uses
    others: dict[str, dict[str, str]]  # the policies of every other role, by its name

    @classmethod
    def of(cls, aws: LocalAws) -> Moment:
        roles = {r.name: r for r in aws.state.iam(HUB).roles.values()}
        victim = roles.pop("Victim")
        allowing = [s for d in documents_of(victim) for s in statements(d) if s["Effect"] == "Allow"]
        used = aws.state.used.get(victim.arn, {})
        return cls(
            {a for a in used if any(names(s, a.lower()) for s in allowing)},
            {
                name: {**r.policies, **{p.arn: default_text(p) for p in r.managed_policies.values()}}
                for name, r in roles.items()
            },
        )

    def worse(self, before: Moment) -> list[str]:
        """Say what a write did to that moment which no write may do."""
        lost = [f"took {action}, which is in use" for action in sorted(before.allowed - self.allowed)]
        return lost + [f"changed {name}" for name in self.others if self.others[name] != before.others.get(name)]


@dataclass
class Kill:
    """kill -9 of the bot at a call: before AWS acts (and AWS acts all the same, or never hears of it), or after."""

    at: int  # which call, or which write
    of: str  # "call" | "write"
    when: str  # "before" | "lost" | "after" | "later"
    delay: float = 0.0
    freeze: bool = False  # SIGSTOP instead, until another has taken over; for PostgreSQL
    away: float = 0.0  # the PostgreSQL server goes down instead, for so many seconds


@dataclass
class Tap:
    """Sits inside the local AWS: counts what the bot calls, and makes what shall go wrong go wrong there."""

    calls: list[Call] = field(default_factory=list)
    writes: int = 0
    seen: int = 0
    pid: int | None = None
    kill: Kill | None = None
    killed: bool = False
    frozen: threading.Event = field(default_factory=threading.Event)
    crashes: int = 0
    fault: tuple[int, str, bool] | None = None  # which write, how, and whether each time it comes again
    broken: str = ""  # the write that fails each time
    faulted: int = 0
    read: tuple[int, str] | None = None  # which read fails, and how: it and the client's own second try
    unread: str = ""  # the read that failed and will be tried again
    edit: tuple[int, str, Callable[[], str]] | None = None  # before which call, or after which write; returns what
    edited: tuple[int, str] | None = None  # after so many calls; what
    gone: set[str] = field(default_factory=set)  # documents that the edit removed
    come: set[str] = field(default_factory=set)  # and those it made
    total: int = 0
    done: int = 0  # writes with an effect
    reads: int = 0
    wrong: list[str] = field(default_factory=list)  # what a write did that no write may do
    gap: tuple[str, float] | None = None  # a life was killed or frozen, and when
    waiting: tuple[str, float] | None = None  # the same, once the next one has begun
    took: list[tuple[str, float]] = field(default_factory=list)  # and until its first call: seconds

    def life(self, kill: Kill | None) -> None:
        self.pid, self.kill, self.killed, self.seen, self.writes = None, kill, False, 0, 0
        self.waiting, self.gap = self.gap, None
        self.frozen.clear()

    def again(self) -> None:
        """Begin the rollback: what is counted is counted from here."""
        self.broken, self.unread = "", ""
        self.total = self.done = self.reads = 0

    def act(self, front: Front, operation: str, hit: Any, go: Callable[[], Any]) -> Any:
        """Called with the state's lock held."""
        params = dict(front.params)
        write = operation in WRITES
        self.seen += 1
        self.total += 1
        self.writes += write
        self.reads += not write
        if self.waiting is not None:
            self.took.append((self.waiting[0], time.monotonic() - self.waiting[1]))
            self.waiting = None
        self._edit(front.aws)
        kill = self.kill
        due = kill is not None and not self.killed and kill.at == (self.writes if kill.of == "write" else self.seen)
        due = due and (kill is None or kill.of == "call" or write)
        if due and kill is not None and kill.when in {"before", "lost"}:
            self._kill()
            if kill.when == "lost":
                return front.refuse(*front.failed)
        if (refusal := (self._fault if write else self._unread)(front, operation, params, hit)) is not None:
            return refusal
        before = Moment.of(front.aws) if write else None
        answer = go()
        if before is not None and front.outcome == "ok":
            self.done += 1
            if self.edited is None or read_after(self.calls, *self.edited):
                self.wrong += [f"{operation} {w}" for w in Moment.of(front.aws).worse(before)]
        self.calls.append(Call(operation, params, front.outcome == "ok"))
        if due and kill is not None and kill.when == "after":
            self._kill()
        elif due and kill is not None and kill.when == "later":
            self.killed = True
            threading.Timer(kill.delay, self._kill).start()
        return answer

    def _edit(self, aws: LocalAws) -> None:
        if self.edit is None or (self.total if self.edit[1] == "call" else self.done + 1) < self.edit[0]:
            return
        edit, self.edit = self.edit[2], None
        before = texts_at_aws(aws)
        self.edited = (len(self.calls), edit())
        after = texts_at_aws(aws)
        self.gone, self.come = before - after, after - before

    def _unread(self, front: Front, operation: str, params: dict[str, Any], hit: Any) -> Any:
        if self.read is None:
            return None
        number, kind = self.read
        key = Call(operation, params, effect=False).key()
        if self.unread:
            if key != self.unread:
                return None
            self.read, self.unread = None, ""
        elif self.reads == number:
            self.unread = key
            self.faulted += 1
        else:
            return None
        return self._fail(front, kind, hit)

    def _fault(self, front: Front, operation: str, params: dict[str, Any], hit: Any) -> Any:
        if self.fault is None:
            return None
        number, kind, always = self.fault
        key = Call(operation, params, effect=False).key()
        if not (self.broken == key if self.broken else self.writes == number):
            return None
        self.faulted += 1
        if always:
            self.broken = key
        else:
            self.fault = None
        return self._fail(front, kind, hit)

    @staticmethod
    def _fail(front: Front, kind: str, hit: Any) -> Any:
        match kind:
            case "before":
                return front.refuse(*front.failed)
            case "after":
                hit.error_after = True
            case "lost":
                hit.lost_reply = True
            case "throttle":
                return front.refuse(*front.throttled)
            case "denied":
                return front.refuse("AccessDenied", "not authorized to perform this")
        return None

    def _kill(self) -> None:
        self.killed = True
        if self.kill is not None and self.kill.away:
            self.crashes += 1
            postgres.server().crash()
            threading.Timer(self.kill.away, postgres.server().start).start()
        elif self.pid is not None:
            try:
                freeze = self.kill is not None and self.kill.freeze
                os.kill(self.pid, signal.SIGSTOP if freeze else signal.SIGKILL)
                self.gap = ("frozen" if freeze else "killed", time.monotonic())
                if freeze:
                    self.frozen.set()
            except ProcessLookupError:
                self.killed = False


@contextmanager
def tapped(tap: Tap) -> Iterator[Tap]:
    """Let every IAM call of this process's local AWS pass the tap."""
    plain = Front._act

    def act(self: Front, operation: str, hit: Any) -> Any:
        with self.state.lock:
            return tap.act(self, operation, hit, lambda: plain(self, operation, hit))

    Iam._act = act  # type: ignore[method-assign]
    try:
        yield tap
    finally:
        del Iam._act


# -------------------- somebody else at work


def edits(aws: LocalAws, dice: random.Random, kind: str = "") -> Callable[[], str]:
    """Return an act of somebody else on the role; it tells what it did, as `kind|name|text`. `kind`: this one alone."""

    def act() -> str:
        backend = aws.state.iam(HUB)
        role, beside = aws._role(HUB, "Victim"), aws._role(HUB, "Beside")
        new = json.dumps(document("s3:ListAllMyBuckets", f"s3:GetObject{dice.randrange(1000)}"))
        attached = sorted(role.managed_policies)
        mine = [a for a in attached if a.endswith((":policy/Own", ":policy/Full"))]
        kinds = ["add", "attach"]
        kinds += ["put", "put", "delete"] if role.policies else []
        kinds += ["detach"] if attached else []
        copies = [a for a in attached if ":policy/refine/" in a]
        kinds += ["version", "version", "share", "move", "move"] if mine else []
        kinds += ["uncopy", "uncopy", "uncopy"] if copies else []
        match kind or dice.choice(kinds):
            case "put":
                name = dice.choice(sorted(role.policies))
                role.policies[name] = new
                return f"put|{name}|{new}"
            case "delete":
                name = dice.choice(sorted(role.policies))
                del role.policies[name]
                return f"delete|{name}|"
            case "add":
                role.policies["Added"] = new
                return f"add|Added|{new}"
            case "attach":
                aws.state.aws_policy(backend, OTHER).attach_to(role)  # type: ignore[union-attr]
                return f"attach|{OTHER}|"
            case "detach":
                arn = dice.choice(attached)
                backend.detach_role_policy(arn, role.name)
                return f"detach|{arn}|"
            case "uncopy":
                arn = dice.choice(copies)
                backend.detach_role_policy(arn, role.name)
                return f"detach|{arn}|"
            case "move":
                arn = dice.choice(mine)
                policy = backend.managed_policies[arn]
                backend.detach_role_policy(arn, role.name)
                policy.attach_to(beside)
                return f"move|{arn}|{default_text(policy)}"
            case "version":
                arn = dice.choice(mine)
                policy = backend.managed_policies[arn]
                if len(policy.versions) >= 5:
                    oldest = next(v for v in policy.versions if not v.is_default)
                    backend.delete_policy_version(arn, oldest.version_id)
                backend.create_policy_version(arn, new, "true")
                return f"version|{arn}|{new}"
            case _:
                arn = dice.choice(mine)
                policy = backend.managed_policies[arn]
                policy.attach_to(beside)
                return f"share|{arn}|{default_text(policy)}"

    return act


def kept(aws: LocalAws, edit: str) -> bool:
    """Whether somebody's edit is still what is in force."""
    kind, name, text = edit.split("|", 2)
    victim = aws.snapshot(HUB, "Victim")
    match kind:
        case "put" | "add":
            return victim["inline"].get(name) == text
        case "delete":
            return name not in victim["inline"]
        case "attach":
            return name in victim["attached"]
        case "detach":
            return name not in victim["attached"]
        case "version":
            return name not in victim["attached"] or victim["attached"][name]["document_text"] == text
        case _:
            there = aws.snapshot(HUB, "Beside")["attached"][name]["document_text"] == text
            return there and (kind == "share" or name not in victim["attached"])


def _reads(call: Call, kind: str, name: str) -> bool:
    """Whether the call shows the thing that somebody edited."""
    if not call.effect:
        return False
    match call.operation:
        case "GetRolePolicy":
            return kind in {"put", "add", "delete"} and call.params.get("PolicyName") == name
        case "ListRolePolicies":
            return kind in {"add", "delete"}
        case "ListAttachedRolePolicies":
            return kind in {"attach", "detach", "move"}
        case "GetPolicy":
            return kind in {"version", "share"} and call.params.get("PolicyArn") == name
    return False


def read_after(calls: list[Call], at: int, edit: str) -> bool:
    """Whether the bot has read the edited thing at all after the edit."""
    kind, name, _ = edit.split("|", 2)
    return any(_reads(call, kind, name) for call in calls[at:])


def seeable(calls: list[Call], at: int, edit: str) -> bool:
    """Whether the bot read the edited thing after the edit and before it wrote to it (or never wrote to it)."""
    kind, name, _ = edit.split("|", 2)
    for call in calls[at:]:
        if _reads(call, kind, name):
            return True
        if call.operation in WRITES and name in (call.params.get("PolicyName"), call.params.get("PolicyArn")):
            return False
    return True


# -------------------- a trial


@dataclass
class Plan:
    """What shall happen in a trial."""

    parts: tuple[str, ...]
    kills: tuple[Kill, ...] = ()
    fault: tuple[int, str, bool] | None = None
    fault_back: tuple[int, str, bool] | None = None
    read: tuple[int, str] | None = None
    edit_at: int = 0
    edit_of: str = "call"  # before that call, or "write": after the one before that
    edit_kind: str = ""
    edit_back: bool = False
    lag: float = 0.0
    reads: str = ""  # a fault of reads
    back: bool = False


class Violation(Exception):
    pass


@dataclass
class Tally:
    counts: Counter[str] = field(default_factory=Counter)
    took: list[tuple[str, float]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def in_force(aws: LocalAws) -> dict[str, str]:
    shot = aws.snapshot(HUB, "Victim")
    return {arn: p["document_text"] for arn, p in shot["attached"].items()} | {
        f"inline/{n}": text for n, text in shot["inline"].items()
    }


def approved(before: dict[str, str], own: set[str], proposal: Proposal) -> dict[str, str]:
    """Return what must be in force once the proposal is applied, from its documents alone."""
    wanted = dict(before)
    for outcome in proposal.trim.policies:
        if outcome.outcome is not Outcome.UNCHANGED:
            wanted.pop(outcome.source, None)
    for outcome in proposal.trim.policies:
        if outcome.outcome is Outcome.UNCHANGED or outcome.text is None:
            continue
        if outcome.kind is PolicyKind.INLINE:
            wanted[f"inline/{outcome.name}"] = outcome.text
        elif outcome.source in own and outcome.source.endswith(f"/{outcome.name}"):
            wanted[outcome.source] = outcome.text
        else:
            wanted[f"arn:aws:iam::{HUB}:policy/refine/{outcome.name}"] = outcome.text
    return wanted


def texts_at_aws(aws: LocalAws) -> set[str]:
    backend = aws.state.iam(HUB)
    inline = {text for role in backend.roles.values() for text in role.policies.values()}
    return inline | {v.document for p in backend.managed_policies.values() for v in p.versions}


@dataclass
class Databases:
    """Where the trials' state is: files, or databases of a PostgreSQL server, each a copy of an empty one."""

    template: Path | None  # SQLite

    def prepare(self, folder: Path) -> None:
        if self.template is not None:
            shutil.copy(self.template, folder / "bot.db")
        else:
            (folder / "url").write_text(postgres.url(folder))

    def forget(self) -> None:
        if self.template is None:
            postgres.forget()

    def bodies(self, folder: Path) -> list[str]:
        query = "SELECT body FROM changes"
        if self.template is None:
            return [body for (body,) in postgres.server().run(query, name=postgres.name_of(folder))]
        with sqlite3.connect(folder / "bot.db") as database:
            return [body for (body,) in database.execute(query)]

    @classmethod
    def made(cls, engine: str, folder: Path, aws_url: str) -> Databases:
        if engine == "postgresql":
            return cls(None)
        asyncio.run(_template(folder, aws_url))
        return cls(folder / "bot.db")


def texts_in_journal(bodies: list[str]) -> set[str]:
    texts: set[str] = set()
    for body in bodies:
        change = decode(Change, body)
        texts |= {t for s in change.steps for t in (s.text, s.before)}
        texts |= {t for p in change.before.policies for t in (p.text, p.oldest_text)}
    return texts


class Trial:
    def __init__(self, aws: LocalAws, plan: Plan, dice: random.Random, databases: Databases, tally: Tally) -> None:
        self.aws, self.plan, self.dice, self.tally = aws, plan, dice, tally
        self.tap = Tap()
        self.databases = databases

    def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="torture-") as folder:
            self.data = Path(folder)
            self.databases.prepare(self.data)
            try:
                self._run()
            except Violation as error:
                log = (self.data / "bot.log").read_text()[-1500:] if (self.data / "bot.log").exists() else ""
                self.tally.violations.append(f"{error} in {self.plan}\n{log}")
            except Exception:
                self.tally.violations.append(f"crash in {self.plan}\n{traceback.format_exc()}")
            self.databases.forget()
        self.tally.counts["trials"] += 1

    def _run(self) -> None:
        self.aws.reset(world=False)
        self.aws.report_seconds = 0.0
        for name, data in role_of(self.plan.parts).items():
            self.aws.add_role(name, data)
        self.before = in_force(self.aws)
        self.ever = texts_at_aws(self.aws)
        case_id = asyncio.run(self._propose())
        with tapped(self.tap):
            case = self._drive(case_id, self.plan.fault, edit=self.plan.edit_at > 0 and not self.plan.edit_back)
            self._check(case, back=False)
            if self.plan.back and case.state is CaseState.WATCHING:
                asyncio.run(self._start_back(case_id))
                case = self._drive(case_id, self.plan.fault_back, edit=self.plan.edit_back)
                self._check(case, back=True)

    async def _propose(self) -> CaseId:
        async with lives.bot(self.data, self.aws.url) as world:
            case_id = await lives.proposed(world, self.aws._role(HUB, "Victim").arn)
            case = await world.store.case(case_id)
            if case.proposal is None:
                raise Violation(f"no proposal: {case.state} {case.sentence}")
            self.proposal = case.proposal
            own = {"own": f"arn:aws:iam::{HUB}:policy/Own", "full": f"arn:aws:iam::{HUB}:policy/Full"}
            self.wanted = approved(self.before, {own[p] for p in self.plan.parts if p in own}, case.proposal)
            if self.wanted == self.before:
                raise Violation("the proposal changes nothing")
            await decide.approve(world, case_id, case.revision, BEN, "go")
            return case_id

    async def _start_back(self, case_id: CaseId) -> None:
        async with lives.bot(self.data, self.aws.url) as world:
            await drive.start_rollback(world, case_id, None, BEN, "back")

    def _drive(self, case_id: CaseId, fault: tuple[int, str, bool] | None, *, edit: bool) -> Case:
        tap, plan = self.tap, self.plan
        tap.again()
        tap.fault, tap.read = fault, plan.read
        if edit:
            tap.edit = (plan.edit_at, plan.edit_of, edits(self.aws, self.dice, plan.edit_kind))
        if plan.lag:
            self.aws.fault(kind="lag", seconds=plan.lag, rate=0.5)
        if plan.reads:
            for operation in (
                "GetPolicy",
                "GetRole",
                "GetRolePolicy",
                "ListAttachedRolePolicies",
                "ListPolicyVersions",
            ):
                self.aws.fault(operation, plan.reads, rate=0.08)
        frozen: list[Any] = []
        for kill in (*plan.kills, None):
            tap.life(kill)
            process = _context.Process(
                target=lives.live,
                args=(self.data, self.aws.url, {"refine_settle_seconds": 1.0 if not plan.lag else 1.5}),
            )
            process.start()
            tap.pid = process.pid
            until = time.monotonic() + LIFE_SECONDS
            while process.exitcode is None and not tap.frozen.is_set() and time.monotonic() < until:
                process.join(0.02)
            if tap.frozen.is_set():
                self.tally.counts["frozen"] += 1
                frozen.append(process)
                late = self.dice.uniform(0.5, 3)
                if late < 1.5:  # it may wake before anybody takes over
                    tap.gap = None
                threading.Timer(late * lives.IDLE_SECONDS, _wake, [process.pid]).start()
                continue
            if process.exitcode is None:
                process.kill()
                process.join()
                raise Violation("stuck")
            if process.exitcode == -signal.SIGKILL:
                self.tally.counts["kills"] += 1
                continue
            self.tally.counts["unmet_kills"] += kill is not None and not tap.killed
            if process.exitcode != 0:
                raise Violation(f"the bot ended with {process.exitcode}")
            break
        for process in frozen:  # woken, it finds that its time is over, and that nothing is left to do
            process.join(LIFE_SECONDS)
            if process.exitcode != 0:
                process.kill()
                raise Violation(f"the frozen bot ended with {process.exitcode}")
        tap.kill = None
        self.aws.clear_faults()
        self.tally.counts["faults"] += tap.faulted
        self.tally.counts["crashes"] += tap.crashes
        self.tally.counts["unmet_faults"] += (tap.fault is not None or tap.read is not None) and not tap.faulted
        self.tally.counts["unmet_edits"] += tap.edit is not None
        self.tally.took += tap.took
        tap.faulted, tap.crashes, tap.took, tap.edit = 0, 0, [], None
        return asyncio.run(self._case(case_id))

    async def _case(self, case_id: CaseId) -> Case:
        async with lives.bot(self.data, self.aws.url) as world:
            broken = await world.store.verify_audit()
            if broken is not None:
                raise Violation(f"audit chain broken at {broken}")
            return await world.store.case(case_id)

    # -------------------- what must be so

    def _check(self, case: Case, *, back: bool) -> None:
        now, tap = in_force(self.aws), self.tap
        edited = tap.edited is not None
        if tap.wrong:
            raise Violation("; ".join(tap.wrong))
        for key, number in Counter(c.key() for c in tap.calls if c.effect and c.operation in WRITES).items():
            if number > 1:
                raise Violation(f"{key} had its effect {number} times")
        self.tally.counts["writes"] += sum(c.effect and c.operation in WRITES for c in tap.calls) if not back else 0
        written = {str(c.params["PolicyDocument"]) for c in tap.calls if c.effect and c.params.get("PolicyDocument")}
        overwritten = tap.edited is not None and not kept(self.aws, tap.edited[1])
        blind = overwritten and tap.edited is not None and not seeable(tap.calls, *tap.edited)
        mine = (self.ever | written) - tap.gone  # somebody else deletes too, and keeps no journal
        mine |= set() if blind else tap.come
        lost = mine - texts_at_aws(self.aws) - texts_in_journal(self.databases.bodies(self.data))
        if lost:
            raise Violation(f"lost {len(lost)} documents: {sorted(lost)}")
        if overwritten and tap.edited is not None:
            if not blind:
                raise Violation(f"overwrote somebody's edit {tap.edited[1]} ({case.state}: {case.sentence})")
            self.tally.counts["unseeable"] += 1
        name = case.state.value
        late = tap.edited is not None and not read_after(tap.calls, *tap.edited)
        if late:  # when all was written and verified
            self.tally.counts["late"] += 1
        match case.state:
            case CaseState.WATCHING:
                if not self._same(now, self.wanted, late=late):
                    raise Violation(f"said applied, and is not: {sorted(now)} for {sorted(self.wanted)}")
            case CaseState.ROLLED_BACK:
                # What the change never touched is not its rollback's business: somebody's new policy stays.
                beside = edited and str(tap.edited and tap.edited[1]).startswith(("add|", "attach|"))
                if not self._same(now, self.before, late=late or beside):
                    raise Violation(f"said rolled back, and is not: {sorted(now)} for {sorted(self.before)}")
                self._no_copies()
            case CaseState.STALE:
                if any(c.effect and c.operation in WRITES for c in tap.calls):
                    raise Violation("stale after a write")
            case CaseState.FAILED:
                if "as if nothing had been written" in case.sentence:
                    name = "taken_back"
                    if now != self.before:
                        raise Violation(f"said taken back, and is not: {sorted(now)} for {sorted(self.before)}")
                    self._no_copies()
                else:
                    said = case.sentence.rpartition("In force now:")[2]
                    missing = [k for k in now if k.rsplit("/", 1)[-1] not in said]
                    if self.plan.read and said.startswith(" unknown, because AWS could not be asked"):
                        missing = []  # it was asked, and the same read failed again
                    if not edited and "Nothing was written." in case.sentence and now != self.before:
                        raise Violation(f"said nothing was written, and was: {sorted(now)} for {sorted(self.before)}")
                    if missing or not said:
                        raise Violation(f"failed without saying that {missing} is in force: {case.sentence}")
                    if not edited and not (self.plan.fault or self.plan.fault_back or self.plan.read):
                        raise Violation(f"failed for no reason: {case.sentence}")
            case _:
                raise Violation(f"ended {case.state}: {case.sentence}")
        self.tally.counts[name] += 1
        if edited:
            self.tally.counts["edits"] += 1

    def _same(self, now: dict[str, str], wanted: dict[str, str], *, late: bool) -> bool:
        """Compare with what must be in force; without what somebody edited after the last look at it."""
        if late and self.tap.edited is not None:
            kind, name, _ = self.tap.edited[1].split("|", 2)
            key = f"inline/{name}" if kind in {"put", "add", "delete"} else name
            now = {k: v for k, v in now.items() if k != key}
            wanted = {k: v for k, v in wanted.items() if k != key}
        return now == wanted

    def _no_copies(self) -> None:
        copies = [a for a in self.aws.state.iam(HUB).managed_policies if ":policy/refine/" in a]
        if copies:
            raise Violation(f"copies are left: {copies}")


def _wake(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


# -------------------- which trials


def some_parts(dice: random.Random) -> tuple[str, ...]:
    """Return parts that make at least five steps."""
    while True:
        parts = tuple(p for p in PARTS if dice.random() < 0.5)
        if sum(STEPS[p] for p in parts) >= 5:
            return parts


def some_kills(dice: random.Random, parts: tuple[str, ...], most: int) -> tuple[Kill, ...]:
    steps = sum(STEPS[p] for p in parts)
    kills = []
    for _ in range(dice.randint(1, most)):
        of = dice.choice(("call", "write"))
        at = dice.randint(1, steps if of == "write" else 30 * steps)
        when = dice.choice(("before", "lost", "after", "later"))
        kills.append(Kill(at, of, when, dice.uniform(0, 0.04)))
    return tuple(kills)


def killed(dice: random.Random, number: int) -> Plan:
    """A trial of kills; with reads that lag, are throttled or fail in a third of them."""
    parts = some_parts(dice)
    plan = Plan(parts, kills=some_kills(dice, parts, 3), back=dice.random() < 0.5)
    match number % 6:
        case 1:
            plan.lag = 0.4
        case 3:
            plan.reads = dice.choice(("throttle", "error_before", "error_after", "lost_reply"))
        case 5:
            kind = dice.choice(("before", "after", "lost", "throttle", "denied"))
            always = dice.random() < 0.4 and kind != "throttle"  # throttled for ever, a change waits for ever
            plan.fault = (dice.randint(1, sum(STEPS[p] for p in parts)), kind, always)
        case _:
            pass
    return plan


def edited(dice: random.Random, number: int) -> Plan:
    """A trial of somebody's edit at a random moment; with kills in a third of them."""
    parts = some_parts(dice)
    steps = sum(STEPS[p] for p in parts)
    kills = some_kills(dice, parts, 2) if number % 3 == 0 else ()
    back = number % 4 == 3
    plan = Plan(parts, kills=kills, edit_at=dice.randint(1, 30 * steps), edit_back=back, back=back)
    if number % 2:  # right after a write: the next one relies on it
        plan.edit_at, plan.edit_of = dice.randint(2, steps + 1), "write"
    return plan


SWEPT = (
    ("aws", "full", "inline", "inline_gone"),  # every kind of write
    ("inline", "inline_gone"),
    ("aws", "shared", "aws_gone"),  # copies
    ("full", "own"),  # versions, at the limit and below
)
READS = 150  # about as many as a change of the first of those makes


def sweep() -> list[Plan]:
    """Every write of some plans, and of their rollbacks, failing in every way; and every read of one, once."""
    kinds = ("before", "after", "lost")
    made: list[Plan] = []
    for parts in SWEPT:
        steps, back = sum(STEPS[p] for p in parts), sum(BACK[p] for p in parts)
        made += [Plan(parts, fault=(n, kind, False), back=True) for n in range(1, steps + 1) for kind in kinds]
        made += [Plan(parts, fault=(n, "denied", True)) for n in range(1, steps + 1)]
        made += [Plan(parts, fault_back=(n, kind, False), back=True) for n in range(1, back + 1) for kind in kinds]
    kinds = ("before", "lost", "throttle", "denied")
    made += [Plan(SWEPT[0], read=(n, kinds[n % 4]), back=True) for n in range(1, READS + 1)]
    return made


def plans(trials: int, seed: int, engine: str) -> list[tuple[int, Plan]]:
    """Return the trials: as many with kills; two thirds as many with edits; and, from 100 on, the whole sweep.

    On PostgreSQL every tenth of the kills is a freeze (another takes over, and meets the first one woken), and every
    tenth a crash of the server instead, of thirty seconds once.
    """
    made: list[Plan] = []
    for number in range(trials):
        dice = random.Random(f"{seed}/kill/{number}")
        plan = killed(dice, number)
        if engine == "postgresql" and number % 10 == 4:
            plan.kills = (replace(plan.kills[0], freeze=True), *plan.kills[1:])
        elif engine == "postgresql" and number % 10 == 6:
            plan.kills = (replace(plan.kills[0], away=30.0 if number == 6 else 1.0), *plan.kills[1:])
        made.append(plan)
    for number in range(trials * 2 // 3):
        dice = random.Random(f"{seed}/edit/{number}")
        made.append(edited(dice, number))
    every = sweep()
    made += every if trials >= 100 else every[:: max(1, len(every) // max(1, trials))]
    order = list(enumerate(made))
    random.Random(seed).shuffle(order)
    return order


def run(chosen: list[tuple[int, Plan]], seed: int, engine: str, until: float = 0.0, out: Any = None) -> Tally:
    """Run the trials, one after another, until that moment."""
    tally = Tally()
    aws = start(world=False)
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        databases = Databases.made(engine, Path(folder), aws.url)
        for number, plan in chosen:
            if until and time.time() > until:
                break
            before = len(tally.violations)
            Trial(aws, plan, random.Random(f"{seed}/{number}"), databases, tally).run()
            if out and len(tally.violations) > before:
                print(f"VIOLATION in trial {number}: {tally.violations[-1]}", file=out, flush=True)
            elif out and tally.counts["trials"] % 10 == 0:
                print(json.dumps(tally.counts), file=out, flush=True)
    aws.stop()
    return tally


async def _template(folder: Path, url: str) -> None:
    async with lives.bot(folder, url):
        pass
    with sqlite3.connect(folder / "bot.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def _spread(options: argparse.Namespace, engine: str) -> Tally:
    """Share the trials out to processes, and add up what they say in their last line."""
    tally = Tally()

    async def one(share: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.torture", "--trials", str(options.trials), "--seed", str(options.seed),
            "--engine", engine, "--share", f"{share}/{options.processes}", "--until", str(options.until),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        last = b""
        async for line in process.stdout:
            last = line
        await process.wait()
        said = json.loads(last)
        tally.violations += said.pop("said")
        tally.took += [(what, seconds) for what, seconds in said.pop("took")]
        tally.counts.update(said)

    await asyncio.gather(*(one(n) for n in range(options.processes)))
    return tally


def _spread_of(took: list[tuple[str, float]], what: str) -> dict[str, float]:
    """Return the seconds between the end of a life and the first call of the next: half of them, and all, were done."""
    seconds = sorted(s for w, s in took if w == what)
    return {"half": round(seconds[len(seconds) // 2], 2), "most": round(seconds[-1], 2)} if seconds else {}


NAMES = (
    "trials", "kills", "frozen", "crashes", "writes", "faults", "edits", "unseeable", "late",
    "unmet_kills", "unmet_faults", "unmet_edits",
    "watching", "rolled_back", "taken_back", "failed", "stale",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--trials", type=int, default=300, help="trials with kills; those with edits and faults follow")
    parser.add_argument("--engine", choices=ENGINES, help="this one alone; default: one after the other")
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0, help="start no further trial after so long; 0: never mind")
    parser.add_argument("--only", type=int, help="run this one trial alone")
    parser.add_argument("--share", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    began = time.time()
    if options.seconds:
        options.until = began + options.seconds
    if options.share:
        share, of = map(int, options.share.split("/"))
        chosen = plans(options.trials, options.seed, options.engine)
        tally = run(chosen[share::of], options.seed, options.engine, options.until, sys.stderr)
        print(json.dumps({**tally.counts, "took": tally.took, "said": tally.violations}), flush=True)
        return 0
    engines: dict[str, dict[str, Any]] = {}
    for engine in (options.engine,) if options.engine else ENGINES:
        start_of_it = time.time()
        chosen = plans(options.trials, options.seed, engine)
        if options.only is not None:
            tally = run([c for c in chosen if c[0] == options.only], options.seed, engine, options.until, sys.stderr)
        else:
            tally = asyncio.run(_spread(options, engine))
        engines[engine] = {
            **{n: tally.counts[n] for n in NAMES},
            "planned": len(chosen),
            "seconds": round(time.time() - start_of_it),
            "violations": len(tally.violations),
            "until_the_next_acts": {what: _spread_of(tally.took, what) for what in ("killed", "frozen")},
        }
        print(json.dumps({engine: engines[engine]}), flush=True)
    total = Counter({"violations": 0})
    for counts in engines.values():
        total.update({name: n for name, n in counts.items() if isinstance(n, int)})
    print(json.dumps({**total, **engines}))
    return 1 if total["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
