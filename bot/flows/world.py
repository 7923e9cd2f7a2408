"""What every flow needs, bundled: the ports, the settings, and time and ids as they are passed in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from bot.config import Settings
from bot.errors import NotAllowedError, RefineError, ThrottledError, UnavailableError
from bot.flows.ports import Aws, Clock, Engine, NewId, Note, Slack, Sleep, Store
from bot.messages import Counts
from bot.model import Case, CaseId, Digest, Person, Quotas, TrimSettings, UserId
from bot.policy import Catalogue
from bot.rules import Button, Guard, Team, may, may_look

SEEN = timedelta(minutes=5)
NAMED = 4  # approvers, to one who is none


def _alone() -> None:
    """Be the only replica, which nobody takes over from."""


@dataclass(slots=True, kw_only=True)
class World:
    store: Store
    aws: Aws
    slack: Slack
    engine: Engine
    settings: Settings
    catalogue: Catalogue
    clock: Clock
    new_id: NewId
    sleep: Sleep
    # Called right before anything goes out to AWS or Slack: raises StoreError where another replica took over.
    sure: Callable[[], None] = _alone
    own_roles: tuple[str, ...] = ()
    workspace: str = ""
    seen: dict[UserId, tuple[datetime, bool]] = field(default_factory=dict)  # members, see `is_member`
    unread: str = ""  # why the approvers' group could not be read just now
    homes: dict[UserId, tuple[datetime, int, str]] = field(default_factory=dict)  # who looks at which page of App Home
    ranks: dict[CaseId, tuple[int, int, str]] = field(default_factory=dict)  # see `overview`
    counts: dict[CaseId, tuple[Digest, Counts]] = field(default_factory=dict)  # see `post.card`
    # Of waiting cases, by revision: who proposed, and who approved (`overview`).
    asked: dict[CaseId, tuple[int, UserId, frozenset[UserId]]] = field(default_factory=dict)
    waits: dict[CaseId, int] = field(default_factory=dict)  # changes that wait, with how often they were tried since
    drawing: asyncio.Lock = field(default_factory=asyncio.Lock)  # see `pictures`
    moved: asyncio.Event = field(default_factory=asyncio.Event)  # a card was drawn anew, so App Homes are behind
    wake: asyncio.Event = field(default_factory=asyncio.Event)  # something waits in the outbox

    @property
    def guard(self) -> Guard:
        return Guard(
            own_roles=self.own_roles,
            member_role=self.settings.refine_member_role,
            patterns=self.settings.refine_protected_roles,
            tag=self.settings.refine_protected_tag,
        )

    def trim_settings(
        self, *, mode: str = "", window_days: int = 0, keep_by_hand: tuple[str, ...] = (), quotas: Quotas
    ) -> TrimSettings:
        """Return what the engine is told: of the settings, where it is not asked for otherwise."""
        s = self.settings
        return TrimSettings(
            mode=type(s.refine_mode)(mode) if mode else s.refine_mode,
            window_days=window_days or s.refine_window_days,
            keep=s.refine_keep,
            keep_by_hand=keep_by_hand,
            max_report_age_hours=s.refine_max_report_age_hours,
            refuse=s.refine_refuse,
            quotas=quotas,
            now=self.clock(),
        )

    async def team(self, *, sure: bool = False) -> Team:
        """Return who may approve right now; a user group that cannot be read counts as empty, never as everybody.

        Raises:
            UnavailableError, ThrottledError: `sure` is asked for, and Slack does not answer now.
        """
        approvers: set[UserId] = set()
        self.unread = ""
        for each in self.settings.refine_approvers:
            if each.startswith("S"):
                try:
                    approvers |= await self.slack.group_members(each)
                except RefineError as error:
                    if sure and isinstance(error, UnavailableError | ThrottledError):
                        raise
                    self.unread = error.sentence
                    continue
            else:
                approvers.add(UserId(each))
        return Team(
            workspace=self.workspace,
            approvers=frozenset(approvers),
            needed=self.settings.refine_approvals_needed,
            four_eyes=self.settings.refine_four_eyes,
        )

    async def team_to_show(self) -> Team:
        """Return the team without those that a click would be refused to: guests in the group, say.

        For drawing only, so what is known of a person may be a few minutes old; every click is checked anew.
        """
        team = await self.team()
        fit = frozenset([a for a in team.approvers if await self.is_member(a)])
        return replace(team, approvers=fit)

    async def is_member(self, user: UserId) -> bool:
        """Whether this is a full member of the workspace who may act, as known within the last few minutes."""
        now = self.clock()
        until, member = self.seen.get(user, (now, False))
        if now >= until:
            try:
                person = await self.slack.person(user)
            except RefineError:
                return False
            member = not (person.deleted or person.bot or person.guest or person.stranger)
            self.seen[user] = (now + SEEN, member)
        return member

    async def may_look(self, by: UserId) -> None:
        """Raise NotAllowedError where the person may not even read: guests, strangers, bots, the deactivated."""
        may_look(await self.slack.person(by), await self.team())

    async def allowed(self, by: UserId, button: Button, case: Case) -> tuple[Person, Team]:
        """Return person and team where they may press the button.

        Raises:
            NotAllowedError: they may not.
        """
        person = await self.slack.person(by)
        team = await self.team()
        unread = self.unread
        try:
            may(person, button, case, team)
        except NotAllowedError as error:
            fit = not (person.deleted or person.bot or person.guest or person.stranger)
            if unread and fit and person.id not in team.approvers:
                raise NotAllowedError(
                    f"{unread} So nobody may do this now but approvers who are named one by one.",
                    "Try again in a minute; `refine doctor` tells more.",
                ) from None
            if fit and person.team in {"", team.workspace}:
                raise NotAllowedError(error.sentence, await self._whom_to_ask(case, button, error.next_step)) from None
            raise
        return person, team

    async def _whom_to_ask(self, case: Case, button: Button, otherwise: str) -> str:
        """Name those who may do what somebody else may not."""
        team = await self.team_to_show()
        able = set(team.approvers)
        if button is Button.APPROVE:
            able -= {a.by for a in case.approvals}
            if team.four_eyes and case.proposal is not None:
                able.discard(case.proposal.proposed_by)
        named = [f"<@{u}>" for u in sorted(able)]
        if not named:
            return otherwise
        if len(named) > NAMED:
            named = [*named[:NAMED], f"{len(named) - NAMED} more"]
        return f"Ask {', '.join(named[:-1])} or {named[-1]}." if len(named) > 1 else f"Ask {named[0]}."

    def poke(self) -> None:
        """Wake all who wait for the outbox. Who took `wake` before looking there misses nothing."""
        self.wake.set()
        self.wake = asyncio.Event()


def patience(world: World) -> Iterator[float]:
    """Yield the pauses between the looks at AWS, until its reads have had the time to follow a write; in seconds."""
    waited = 0.0
    pause = 0.2
    while waited < world.settings.refine_settle_seconds:
        yield pause
        waited += pause
        pause = min(pause * 1.5, 3.0)


def task_text(**task: object) -> str:
    return json.dumps(task, sort_keys=True)


def thread(case_id: CaseId, name: str, key: str, **args: str) -> Note:
    """A message for the case's thread; `key` makes it unique within the case and the name."""
    return Note(kind="thread", name=name, key=f"{name}/{case_id}/{key}", case_id=case_id, args=tuple(args.items()))


def files(case_id: CaseId, name: str, key: str, **args: str) -> Note:
    return Note(kind="files", name=name, key=f"files/{name}/{case_id}/{key}", case_id=case_id, args=tuple(args.items()))
