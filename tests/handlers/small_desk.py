"""A desk with a state of its own: what the handlers hand over is decided, kept and drawn here, in few words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from bot.errors import LostRaceError, NotAllowedError, NotFoundError, StaleError
from bot.flows import Answer
from bot.model import CaseId, UserId
from bot.rules import Button

Json = dict[str, Any]
ACTIONS = tuple(f"s3:Action{n:03}" for n in range(250))
PAGE = 100
ARN = "arn:aws:iam::123456789012:role/ApplicationRole"


@dataclass(kw_only=True)
class Row:
    id: str
    revision: int = 1
    state: str = "new"
    by: str = ""
    detail: Json = field(default_factory=dict)


class SmallDesk:
    """The Desk's methods over a dictionary of cases; every state is allowed, but only the revision on the card."""

    def __init__(self) -> None:
        self.rows = {f"k{n}": Row(id=f"k{n}") for n in range(1, 26)}
        self.asked: list[tuple[str, str]] = []
        self.paused = ""
        self.guests = {"U0GUS", "U0STAN", "U0DORA", "U0ROBO"}
        self.approvers = {"U0ANN", "U0BEN"}
        self.errors: dict[str, Exception] = {}  # method → what it raises instead
        self.gate: asyncio.Event | None = None  # where set, everything waits for it
        self.begun = 0

    def of_request(self, request: str) -> AbstractContextManager[None]:
        return nullcontext()

    # -------------------- what people do

    async def _enter(self, method: str, by: str = "") -> None:
        self.begun += 1
        if self.gate is not None:
            await self.gate.wait()
        if method in self.errors:
            raise self.errors[method]
        if by in self.guests:
            raise NotAllowedError("Guests may not act on a role.", "Ask a full member of this workspace.")

    async def _move(self, method: str, case_id: str, revision: int | None, by: str, state: str, **detail: Any) -> None:
        await self._enter(method, by)
        row = self._row(case_id)
        if revision != row.revision:
            raise LostRaceError(f"Too late: <@{row.by}> put it to {row.state}.", "The card shows where it stands now.")
        row.revision, row.state, row.by, row.detail = row.revision + 1, state, by, detail

    def _row(self, case_id: str) -> Row:
        if case_id not in self.rows:
            raise NotFoundError("There is no such case.", "Use /refine list.")
        return self.rows[case_id]

    async def look(self, case_id: CaseId, revision: int | None, by: UserId) -> None:
        await self._move("look", case_id, revision, by, "reviewing")

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
        state = f"proposing/{button}"
        more = {"window": window, "reason": reason} if window or reason else {}
        await self._move("propose", case_id, revision, by, state, mode=mode, keep=keep_by_hand, **more)

    async def retry(self, case_id: CaseId, revision: int | None, by: UserId) -> None:
        await self.propose(case_id, revision, by, button=Button.RETRY)

    async def approve(self, case_id: CaseId, revision: int | None, by: UserId, reason: str = "") -> None:
        self._approver(by)
        await self._move("approve", case_id, revision, by, "approved", reason=reason)

    async def decline(self, case_id: CaseId, revision: int | None, by: UserId, reason: str = "") -> None:
        self._approver(by)
        await self._move("decline", case_id, revision, by, "declined", reason=reason)

    async def roll_back(self, case_id: CaseId, revision: int | None, by: UserId, reason: str = "") -> None:
        await self._move("roll_back", case_id, revision, by, "rolling back", reason=reason)

    async def give_back(self, case_id: CaseId, revision: int | None, by: UserId, actions: tuple[str, ...]) -> None:
        await self._move("give_back", case_id, revision, by, "giving back", actions=actions)

    async def snooze(self, case_id: CaseId, revision: int | None, by: UserId, reason: str, days: int) -> None:
        await self._move("snooze", case_id, revision, by, "snoozed", reason=reason, days=days)

    async def accept(
        self, case_id: CaseId, revision: int | None, by: UserId, reason: str, days: int, owner: str = ""
    ) -> None:
        await self._move("accept", case_id, revision, by, "accepted", reason=reason, days=days, owner=owner)

    async def reopen(self, case_id: CaseId, revision: int | None, by: UserId) -> None:
        await self._move("reopen", case_id, revision, by, "new again")

    def _approver(self, by: str) -> None:
        if by not in self.approvers:
            raise NotAllowedError("You are not one of the approvers.", "Ask an approver to press the button.")

    async def check(self, case_id: CaseId, revision: int | None, by: UserId, button: Button) -> None:
        await self._enter("check", by)
        row = self._row(case_id)
        if button in {Button.APPROVE, Button.DECLINE}:
            self._approver(by)
        if revision != row.revision:
            raise StaleError(
                f"Too late: <@{row.by}> put it to {row.state}.", "Press the button on the card as it is now."
            )

    async def ask(self, query: str, by: UserId) -> Answer:
        await self._enter("ask", by)
        if query not in {"ApplicationRole", "123456789012/ApplicationRole", ARN}:
            raise NotFoundError(f"There is no role called {query!r}.", "Check the spelling.")
        self.asked.append((query, by))
        return Answer(text="Reading what `ApplicationRole` really did; the answer comes in its thread.")

    async def pause(self, by: UserId, on: bool) -> Answer:
        await self._enter("pause", by)
        self._approver(by)
        self.paused = by if on else ""
        return Answer(text="Refine is paused." if on else "Refine is at work again.")

    # -------------------- what people look at

    async def may_look(self, by: UserId) -> None:
        await self._enter("may_look", by)

    async def suggest(self, text: str, by: UserId) -> tuple[tuple[str, str], ...]:
        await self._enter("suggest", by)
        return tuple(("123456789012", n) for n in ("ApplicationRole", "BuildRole") if text.lower() in n.lower())

    async def card(self, case_id: CaseId) -> Json:
        await self._enter("card")
        row = self._row(case_id)
        value = f"{row.id}:{row.revision}"
        names = [*Button, "propose_strict", "propose_safe"]
        text = f"Case {row.id} is {row.state}, revision {row.revision}"
        return {"text": text, "blocks": [section(text), actions(*(button(f"case:{n}", value) for n in names))]}

    async def review(self, case_id: str) -> Json:
        """Return a message of the thread: with the picker of services, and a button of another version."""
        options = [{"text": plain(n), "value": n} for n in ("dynamodb", "s3")]
        picker = {
            "type": "static_select",
            "action_id": "review:service",
            "placeholder": plain("Open one service"),
            "options": options,
        }
        return {
            "text": "Review",
            "blocks": [
                {"type": "actions", "block_id": f"review:{case_id}", "elements": [picker]},
                actions(
                    button("case:teleport", f"{case_id}:1"),
                    button("approve_v0", "proposal-17"),
                    button("case:review", "{}"),
                    {**button("link:docs", ""), "url": "https://docs.aws.amazon.com/"},
                ),
            ],
        }

    async def modal(
        self,
        case_id: CaseId,
        button: Button,
        page: int = 0,
        search: str = "",
        state: Mapping[str, Any] | None = None,
        by: str = "",
    ) -> Json:
        await self._enter("modal")
        row = self._row(case_id)
        blocks = [section(f"{button} {case_id}?"), *self._inputs(button, page, search, state or {}, by)]
        view = {
            "type": "modal",
            "callback_id": f"case:{button}",
            "private_metadata": f"{row.id}:{row.revision}",
            "title": plain("Refine"),
            "close": plain("Cancel"),
            "blocks": blocks,
        }
        return view if button is Button.NARROW else {**view, "submit": plain("Send")}

    def _inputs(self, button: Button, page: int, search: str, state: Mapping[str, Any], by: str) -> list[Json]:
        reason = put("reason", {"type": "plain_text_input", "action_id": "text"}, optional=button is not Button.ACCEPT)
        days = put("days", chooser("static_select", [str(n) for n in (7, 14, 30, 90)]))
        match button:
            case Button.APPROVE | Button.DECLINE | Button.ROLL_BACK:
                return [reason]
            case Button.ACCEPT:
                owner = put("owner", {"type": "users_select", "action_id": "pick", "initial_user": by})
                return [{**reason, "optional": True}, {**days, "optional": True}, owner]
            case Button.SNOOZE:
                return [{**reason, "optional": True}, days]
            case Button.ADJUST:
                keep = {"type": "plain_text_input", "action_id": "patterns", "multiline": True}
                return [
                    {**reason, "optional": True},
                    put("window", chooser("static_select", ["30", "90", "401"])),
                    put("mode", chooser("radio_buttons", ["safe", "strict"])),
                    put("keep", keep, optional=True),
                    *listed(page, search, state),
                ]
            case Button.GIVE_BACK:
                return listed(page, search, state)
        return []

    async def explain(self, case_id: CaseId) -> Answer:
        await self._enter("explain")
        return Answer(text=f"Why {case_id} cannot be told.", blocks=[section(f"Why {case_id} cannot be told.")])

    async def service(self, case_id: CaseId, namespace: str) -> Answer:
        await self._enter("service")
        text = f"{namespace} of {self._row(case_id).id}"
        return Answer(text=text, blocks=[section(text), *(await self.review(case_id))["blocks"][:1]])

    async def home(self, by: UserId, page: int = 0, filter: str = "") -> Json:  # noqa: A002  # the Desk's word
        await self._enter("home", by)
        rows = [r for r in self.rows.values() if filter in {"", r.state}]
        shown = rows[page * 10 : page * 10 + 10]
        states = ["all", *sorted({r.state for r in self.rows.values()})]
        picker = chooser("static_select", states, action_id="home:filter")
        blocks = [
            section(f"Page {page} of {filter or 'all'}: {' '.join(f'{r.id}={r.state}' for r in shown) or 'none'}"),
            actions(picker, button("home:page", f"{page + 1}:{filter}")),
        ]
        for r in shown:
            value = f"{r.id}:{r.revision}"
            blocks.append(
                actions(button("case:review", value), button("case:snooze", value), button("case:open", value))
            )
        return {"type": "home", "blocks": blocks}

    async def list(self, text: str = "") -> Answer:
        await self._enter("list")
        return Answer(text=f"{sum(text in r.id for r in self.rows.values())} cases")

    async def status(self) -> Answer:
        await self._enter("status")
        return Answer(text="Paused" if self.paused else "At work")

    async def history(self, query: str) -> Answer:
        await self._enter("history")
        return Answer(text=f"History of {query}")

    async def help(self, rows: Sequence[tuple[str, str]]) -> Answer:
        await self._enter("help")
        return Answer(text=f"What /refine understands: {', '.join(usage for usage, _ in rows)}")


# -------------------- blocks


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text, "emoji": False}


def section(text: str) -> Json:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def actions(*elements: Json) -> Json:
    return {"type": "actions", "elements": [*elements]}


def button(action_id: str, value: str) -> Json:
    made = {"type": "button", "action_id": action_id, "text": plain(action_id)}
    return {**made, "value": value} if value else made


def put(block_id: str, element: Json, *, optional: bool = False) -> Json:
    return {"type": "input", "block_id": block_id, "label": plain(block_id), "optional": optional, "element": element}


def chooser(kind: str, values: list[str], action_id: str = "pick") -> Json:
    made = {"type": kind, "action_id": action_id, "options": [{"text": plain(v), "value": v} for v in values]}
    return made if kind == "radio_buttons" else {**made, "placeholder": plain("Pick")}


def listed(page: int, search: str, state: Mapping[str, Any]) -> list[Json]:
    """Return the picker of a long list: what was picked before is offered, and picked, on every page."""
    before = [o["value"] for b, v in state.items() if b.startswith("actions") for o in v["pick"]["selected_options"]]
    found = [a for a in ACTIONS if search.lower() in a.lower()]
    shown = list(dict.fromkeys([*before, *found[page * PAGE : (page + 1) * PAGE]]))[:PAGE]
    picker = chooser("multi_static_select", shown)
    if before:
        picker["initial_options"] = [{"text": plain(v), "value": v} for v in before]
    return [
        put("search", {"type": "plain_text_input", "action_id": "text"}, optional=True),
        actions(button("modal:search", "search"), button("modal:page", str(page + 1))),
        put(f"actions:{page}:{search}", picker, optional=True),
    ]
