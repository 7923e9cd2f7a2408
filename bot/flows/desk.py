"""The desk: what Slack's surfaces call. It finds the flow and draws the views; the flows and the rules decide."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

from bot import messages, rules
from bot.errors import LostRaceError, NotAllowedError, NotFoundError, RefineError, StaleError
from bot.flows import archive, decide, drive, homes, post, propose
from bot.flows.ports import Payload
from bot.flows.world import World
from bot.model import Case, CaseId, CaseState, UserId
from bot.rules import Button


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one person is told, ephemerally."""

    text: str
    blocks: list[dict[str, Any]] | None = None


class Desk:
    """One method a thing that people do in Slack; each raises a RefineError with a sentence for the clicker."""

    def __init__(self, world: World) -> None:
        self._world = world

    def of_request(self, request: str) -> AbstractContextManager[None]:
        """Note Slack's id of a request in the audit entries of what is done meanwhile."""
        return self._world.store.of_request(request)

    # -------------------- by name

    async def ask(self, query: str, by: UserId) -> Answer:
        """`/refine NAME`: open or find the case, start a proposal, and say where to look."""
        world = self._world
        case = await self._find(query, by)
        if case.state in {CaseState.WAITING, *rules.BUSY}:
            return Answer(text=f"{_state(case)} {await self._link(case)}")
        await propose.start_proposal(world, case.id, case.revision, by)
        return Answer(
            text=f"Reading what `{case.role_name}` really did; the answer comes in its thread. {await self._link(case)}"
        )

    async def roll_back_by_name(self, query: str, by: UserId, reason: str) -> Answer:
        """`/refine rollback NAME REASON`: what the button does, for who has no card at hand."""
        await self.may_look(by)
        case = await self._named(query)
        moved = await drive.start_rollback(self._world, case.id, None, by, reason)
        if moved.state is CaseState.ROLLING_BACK:
            said = f"Putting the old policies of `{case.role_name}` back; its thread says how it ends."
        else:
            said = f"Noted. A second approver has to ask for the rollback of `{case.role_name}` too."
        return Answer(text=f"{said} {await self._link(case)}")

    async def may_look(self, by: UserId) -> None:
        """Raise NotAllowedError where the person may not even read: guests, strangers, bots, the deactivated."""
        await self._world.may_look(by)

    async def suggest(self, text: str, by: UserId) -> tuple[tuple[str, str], ...]:
        """Return account and name of the known roles whose name has the text in it, for a picker."""
        await self.may_look(by)
        cases = await self._world.store.cases(search=text.strip(), limit=100, light=True)
        return tuple((c.account, c.role_name) for c in cases)

    async def _find(self, query: str, by: UserId) -> Case:
        """Find or open the case of a role named by name, ARN, or account/name."""
        world = self._world
        await self.may_look(by)
        query = _bare(query)
        account, name = _parse(query)
        case = await self._known(query)
        if case is not None:
            return case
        try:
            role = await world.aws.role(query if query.startswith("arn:") else name, account)
        except NotFoundError:
            raise await self._unknown(name) from None
        case, _ = await world.store.open_case(
            role_arn=role.arn,
            account=role.account,
            role=role,
            by=by,
            channel=world.settings.refine_channel,
        )
        world.poke()
        return case

    async def _named(self, query: str) -> Case:
        """Return the case of a role named by name, ARN, or account/name.

        Raises:
            NotFoundError: there is none, or there are several.
        """
        query = _bare(query)
        case = await self._known(query)
        if case is None:
            raise await self._unknown(_parse(query)[1])
        return case

    async def _known(self, query: str) -> Case | None:
        """Return the case of a role named by name, ARN, or account/name; None where there is none.

        Raises:
            NotFoundError: there are several.
        """
        store = self._world.store
        account, name = _parse(query)
        if query.startswith("arn:"):
            return await store.case_of_role(query)
        known = [c for c in await store.cases(search=name, limit=50, light=True) if _is(c, name, account)]
        if len(known) > 1:
            where = ", ".join(f"`{c.account}/{c.role_name}`" for c in known[:5])
            raise NotFoundError(f"There are {len(known)} roles of that name: {where}.", "Say which one.")
        return await store.case(known[0].id) if known else None

    async def _unknown(self, name: str) -> RefineError:
        names = {c.role_name for c in await self._world.store.cases(limit=1000, light=True)}
        with suppress(RefineError):  # without it, the near matches are those we know ourselves
            names |= {r.name for r in await self._world.aws.roles()}
        near = messages.near_matches(name, sorted(names))
        hint = "Did you mean " + " or ".join(f"`{n}`" for n in near) + "?" if near else "Check the spelling."
        return NotFoundError(f"There is no role called {name[:64]!r}.", hint)

    async def _link(self, case: Case) -> str:
        channel = case.channel or self._world.settings.refine_channel
        if not case.thread_ts:
            return f"Its card is on the way to <#{channel}>."
        try:
            return f"<{await self._world.slack.permalink(channel, case.thread_ts)}|Open its card>"
        except RefineError:
            return f"Its card is in <#{channel}>."

    # -------------------- buttons

    async def look(self, case_id: CaseId, revision: int | None, by: UserId) -> None:
        await propose.start_look(self._world, case_id, revision, by)

    async def propose(
        self,
        case_id: CaseId,
        revision: int | None,
        by: UserId,
        mode: str = "",
        window: int = 0,
        keep_by_hand: tuple[str, ...] = (),
        reason: str = "",
        button: Button = Button.PROPOSE,
    ) -> None:
        await propose.start_proposal(
            self._world,
            case_id,
            revision,
            by,
            mode=mode,
            window=window,
            keep_by_hand=keep_by_hand,
            reason=reason,
            button=button,
        )

    async def retry(self, case_id: CaseId, revision: int | None, by: UserId) -> None:
        await propose.retry(self._world, case_id, revision, by)

    async def approve(self, case_id: CaseId, revision: int | None, by: UserId, reason: str = "") -> None:
        await decide.approve(self._world, case_id, revision, by, reason)

    async def decline(self, case_id: CaseId, revision: int | None, by: UserId, reason: str = "") -> None:
        await decide.decline(self._world, case_id, revision, by, reason)

    async def _current(self, case_id: CaseId, revision: int | None) -> None:
        case = await self._world.store.case(case_id)
        if revision is not None and revision != case.revision:
            raise LostRaceError(rules.already(case), "Press the button on the card as it is now.")

    async def roll_back(self, case_id: CaseId, revision: int | None, by: UserId, reason: str = "") -> None:
        await self._current(case_id, revision)  # who comes second is told who was first, not that nothing is left
        await drive.start_rollback(self._world, case_id, revision, by, reason)

    async def give_back(self, case_id: CaseId, revision: int | None, by: UserId, actions: tuple[str, ...]) -> None:
        if not actions:
            raise NotAllowedError("No action was picked.", "Pick what the role shall have again.")
        await self._current(case_id, revision)
        await propose.start_give_back(self._world, case_id, revision, by, actions)

    async def snooze(self, case_id: CaseId, revision: int | None, by: UserId, reason: str, days: int) -> None:
        await decide.snooze(self._world, case_id, revision, by, reason, days)

    async def accept(
        self, case_id: CaseId, revision: int | None, by: UserId, reason: str, days: int, owner: str = ""
    ) -> None:
        case = await decide.accept(self._world, case_id, revision, by, reason, days, UserId(owner or by))
        await archive.settle(self._world, case)

    async def reopen(self, case_id: CaseId, revision: int | None, by: UserId) -> None:
        case = await decide.reopen(self._world, case_id, revision, by)
        await archive.settle(self._world, case)

    async def check(self, case_id: CaseId, revision: int | None, by: UserId, button: Button) -> None:
        """Raise before a modal opens where the button would be refused anyway."""
        case = await self._world.store.case(case_id)
        await self._world.allowed(by, button, case)
        if button not in rules.buttons(case):
            raise StaleError(rules.already(case), "The card shows where it stands now.")
        if revision is not None and revision != case.revision:
            raise StaleError(rules.already(case), "Press the button on the card as it is now.")

    # -------------------- views and answers

    async def case(self, case_id: CaseId) -> Case:
        return await self._world.store.case(case_id)

    async def modal(
        self,
        case_id: CaseId,
        button: Button,
        page: int = 0,
        search: str = "",
        state: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> Payload:
        """Return the view of a button that asks something first, for `by`."""
        case = await self._world.store.case(case_id)
        if button is Button.GIVE_BACK and case.change is not None:
            # What is in force, which a later proposal that came to nothing is not.
            case = await self._world.store.case(case_id, proposal_id=case.change.proposal_id)
        return messages.modal(case, button, now=self._world.clock(), page=page, search=search, state=state, by=by)

    async def explain(self, case_id: CaseId) -> Answer:
        case = await self._world.store.case(case_id)
        payload = messages.explain(case, self._world.settings.refine_window_days)
        return Answer(text=payload["text"], blocks=payload.get("blocks"))

    async def service(self, case_id: CaseId, namespace: str) -> Answer:
        case = await self._world.store.case(case_id)
        payload = messages.review_service(case, namespace, await post.judged(self._world, case))
        return Answer(text=payload["text"], blocks=payload.get("blocks"))

    async def home(self, by: UserId, page: int = 0, filter: str = "") -> Payload:  # noqa: A002  # Slack's word for it
        return await homes.draw(self._world, by, page, filter)

    async def list(self, text: str = "") -> Answer:
        cases = await self._world.store.cases(search=text.strip(), limit=20)
        payload = messages.list_cases(cases, await self._world.store.counts(), self._world.clock())
        return Answer(text=payload["text"], blocks=payload.get("blocks"))

    async def status(self) -> Answer:
        paused = await self._world.store.flag(decide.PAUSED)
        payload = messages.status(await self._world.store.counts(), paused, self._world.clock())
        return Answer(text=payload["text"], blocks=payload.get("blocks"))

    async def history(self, query: str) -> Answer:
        case = await self._named(query)
        entries = await self._world.store.history(case.id, limit=30)
        payload = messages.history(entries, case)
        return Answer(text=payload["text"], blocks=payload.get("blocks"))

    async def pause(self, by: UserId, on: bool) -> Answer:
        return Answer(text=await decide.pause(self._world, by, on=on))

    async def help(self, rows: Sequence[tuple[str, str]]) -> Answer:
        """Return what `/refine` understands: `rows` of what to type, and what comes of it."""
        payload = messages.help_text(rows)
        return Answer(text=payload["text"], blocks=payload.get("blocks"))

    async def card(self, case_id: CaseId) -> Payload:
        return await post.card(self._world, await self._world.store.case(case_id))


_NAME = re.compile(r"^[\w+=,.@-]{1,64}$")


def _bare(query: str) -> str:
    return query.strip().strip("`*<>\"'")


def _parse(query: str) -> tuple[str | None, str]:
    """Split a name, an ARN or account/name into account (None: the bot's own) and role name."""
    if query.startswith("arn:"):
        parts = query.split(":")
        if len(parts) < 6 or not parts[5].startswith("role/"):
            raise NotFoundError("That is not the ARN of a role.", "It looks like arn:aws:iam::123456789012:role/Name.")
        return parts[4], query.rsplit("/", 1)[-1]
    before, _, name = query.rpartition("/")
    account = before.strip("/").partition("/")[0]  # a path may stand between the two, or alone before the name
    if account.isdecimal() and not re.fullmatch(r"\d{12}", account):
        raise NotFoundError(
            f"{account[:40]} is no AWS account: those have 12 digits.", f"It looks like 123456789012/{name[:64]}."
        )
    account = account if account.isdecimal() else ""
    if not _NAME.match(name):
        raise NotFoundError(
            "That does not look like the name of a role.", "Try `/refine ApplicationRole`, an ARN, or account/name."
        )
    return account or None, name


def _is(case: Case, name: str, account: str | None) -> bool:
    return case.role_name.lower() == name.lower() and account in {None, case.account}


def _state(case: Case) -> str:
    if case.state is CaseState.WAITING:
        return f"A proposal for `{case.role_name}` is waiting for approval."
    return f"Refine is at work on `{case.role_name}` already."
