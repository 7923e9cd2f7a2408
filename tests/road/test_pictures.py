"""Pictures of what people see: every state of a card, review, proposal, dialogs, App Home, digest.

Drawn by `bot.messages` from realistic cases and posted into a local Slack, where its validators have their say; then
looked at by Chromium, wide and narrow, light and dark. The pictures land in artifacts/pictures, for people to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Page, expect
from slack_sdk.web.async_client import AsyncWebClient

from bot import messages
from bot.messages import words
from bot.messages.lists import OPEN, PAGE
from bot.model import Case, CaseId, CaseState, Mode, Tally
from bot.rules import Button
from sandbox.slack import LocalSlack
from tests.messages.cases import (
    ANN,
    APPLICATION,
    NOW,
    PARTNER,
    PERSON,
    TEAM,
    case_in,
    permits,
    proposed,
    reviewed,
)
from tests.road.test_browser import PICTURES, chromium
from tests.sandbox.slack_echo import Echo, echo

pytestmark = pytest.mark.browser

CHANNEL = "C0SECURITY"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = {"wide": (1280, 1500), "narrow": (390, 3000)}  # tall: an element is whole in its picture
MESSAGE, THREAD, MODAL, HOME = (f'[data-testid="{name}"]' for name in ("message", "thread", "modal", "home"))
REPLY, OPENED = (f'{THREAD} [data-testid="{name}"]' for name in ("message", "ephemeral"))
S = CaseState


class Gallery:
    """A local Slack with an app in it that only acknowledges, and a browser that looks at it."""

    def __init__(self, slack: LocalSlack, bot: Echo, page: Page) -> None:
        self.slack, self.page = slack, page
        self.web: AsyncWebClient = bot.client
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)

    async def post(self, payload: dict[str, Any], thread_ts: str | None = None) -> str:
        answer = await self.web.chat_postMessage(channel=CHANNEL, thread_ts=thread_ts, **payload)
        return str(answer["ts"])

    async def hosted(self, drawing: messages.Drawing | None) -> messages.Picture:
        """Draw it for real, and give it to Slack as the bot does."""
        assert drawing is not None
        answer = await self.web.files_upload_v2(filename="picture.png", content=drawing.png())
        return messages.Picture(file=answer["files"][0]["id"], alt=drawing.alt())

    async def go(self, place: str = CHANNEL, thread: str = "", user: str = ANN) -> None:
        await self.page.evaluate(f"location.hash = 'as={user}&in={place}&thread={thread}'")

    async def picture(self, name: str, locator: str) -> None:
        """One picture of the element each, wide and narrow, light and dark; the window is made tall enough for it."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        for size, (width, height) in SIZES.items():
            await self.page.set_viewport_size({"width": width, "height": height})
            for scheme in SCHEMES:
                await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                await self.page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
                await self.page.locator(locator).last.screenshot(
                    path=PICTURES / f"{name}-{size}-{scheme}.png", animations="disabled"
                )
            sideways = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not await self.page.evaluate(sideways), f"{name} scrolls sideways ({size})"
            assert await self.page.get_by_test_id("unsupported").count() == 0, f"{name} has an unknown block"

    # -------------------- the rooms

    async def cards(self) -> None:
        for state in CaseState:
            await self.post(messages.card(case_in(state), NOW, permits(APPLICATION), team=TEAM))
            await self.shown(MESSAGE, words.label(state) if state is not S.WATCHING else "Applied and verified")
            await self.picture(f"card-{state}", MESSAGE)
        await self.post(messages.card(case_in(S.WAITING, role=PARTNER), NOW, permits(PARTNER), team=TEAM))
        await self.shown(MESSAGE, "PartnerExport")
        await self.picture("card-many-ways-in", MESSAGE)

    async def threads(self) -> None:
        case, trim = reviewed(PARTNER), proposed(PARTNER).trim
        root = await self.post(
            messages.card(
                case, NOW, permits(PARTNER), counts=messages.Counts.of(trim.actions), window_days=90, team=TEAM
            )
        )
        await self.go(thread=root)
        shown = await self.hosted(messages.review_picture(case, trim, NOW, window_days=90))
        await self.post(messages.review(case, trim, NOW, window_days=90, picture=shown), root)
        await self.shown(REPLY, "What PartnerExport used")
        await self.picture("review", REPLY)
        for pick in ("s3", "*|used"):
            opened = messages.review_service(case, pick, trim)
            await self.web.chat_postEphemeral(channel=CHANNEL, user=ANN, thread_ts=root, **opened)
            await self.shown(OPENED, "Amazon S3" if pick == "s3" else "All services")
            await self.picture("review-service" if pick == "s3" else "review-used", OPENED)
        for name, state, role, draw in (
            ("proposal", S.WAITING, APPLICATION, messages.proposal),
            ("proposal-many-policies", S.WAITING, PARTNER, messages.proposal),
            ("applied", S.WATCHING, APPLICATION, messages.applied),
            ("rolled-back", S.ROLLED_BACK, APPLICATION, messages.rolled_back),
        ):
            case = case_in(state, role=role, mode=Mode.STRICT)
            root = await self.post(messages.card(case, NOW, permits(role), team=TEAM))
            await self.post(draw(case, NOW), root)
            await self.go(thread=root)
            await self.shown(THREAD, "1 reply")
            await self.picture(name, REPLY)

    async def dialogs(self) -> None:
        waiting, new = case_in(S.WAITING, mode=Mode.STRICT), case_in(S.NEW)
        for button, case, page in (
            (Button.APPROVE, waiting, 0),
            (Button.DECLINE, waiting, 0),
            (Button.ADJUST, four_hundred(), 3),
            (Button.ACCEPT, new, 0),
            (Button.SNOOZE, new, 0),
            (Button.NARROW, new, 0),
            (Button.ROLL_BACK, case_in(S.WATCHING, mode=Mode.STRICT), 0),
            (Button.GIVE_BACK, case_in(S.WATCHING, mode=Mode.STRICT), 0),
        ):
            view = messages.modal(case, button, now=NOW, page=page)
            await self.web.views_open(trigger_id=self.slack.workspace.new_trigger(ANN), view=view)
            await self.shown(MODAL, case.role_name)
            await self.picture(f"dialog-{button.replace('_', '-')}", MODAL)
            await self.slack.close(ANN)
            await expect(self.page.locator(MODAL)).to_have_count(0)

    async def lists(self) -> None:
        cases = many_cases(300)
        counts = dict(Counter(c.state for c in cases))
        glance = messages.Glance(
            mine=2,
            longest=case_in(S.WAITING),
            ever=Tally(trimmed=22, removed=1234),
            lately=Tally(opened=12, closed=4, trimmed=3, removed=288),
            worst={c.id: permits(PARTNER).worst for c in cases[::3]},
        )
        weeks = [(date(2025, 9, 1) + timedelta(weeks=n * 2), (12, 96, 0, 40, 288)[n % 5]) for n in range(11)]
        weeks.insert(0, (date(2025, 8, 18), 62))
        removed = await self.hosted(messages.Removed.of([*weeks, (date(2026, 1, 26), 288)], NOW.date()))
        first = [c for c in cases if c.state in OPEN]
        view = messages.home(
            first[:PAGE],
            page=0,
            total=len(first),
            person=PERSON,
            now=NOW,
            counts=counts,
            state="",
            glance=glance,
            picture=removed,
        )
        await self.web.views_publish(user_id=ANN, view=view)
        await self.go("home")
        await self.shown(HOME, cases[0].role_name)
        await self.picture("home", HOME)
        await self.go()
        await self.post(messages.weekly_digest(counts, NOW, glance, removed))
        await self.shown(MESSAGE, "week")
        await self.picture("digest", MESSAGE)
        await self.post(messages.burst_summary(300, {S.NEW: 300}, [c for c in cases if c.state is S.NEW], cards=10))
        await self.shown(MESSAGE, "300 new roles")
        await self.picture("burst", MESSAGE)

    async def shown(self, locator: str, text: str) -> None:
        await expect(self.page.locator(locator).last).to_contain_text(text)


@asynccontextmanager
async def gallery(browser: Browser) -> AsyncIterator[Gallery]:
    slack = LocalSlack(now=NOW.timestamp)
    slack.api.paced = False
    await slack.start()
    try:
        async with echo(slack) as bot:
            page = await browser.new_page(viewport={"width": 1280, "height": 1500})
            # A clock of their own: what the cases call "today" stays so, and the pictures do not age.
            await page.clock.install(time=NOW)
            await page.add_init_script("localStorage.setItem('refine.welcomed', 'yes')")
            await page.goto(slack.url)
            yield Gallery(slack, bot, page)
            await page.close()
    finally:
        await slack.stop()


def four_hundred() -> Case:
    """Return a waiting case whose proposal takes some 400 actions away."""
    case = case_in(S.WAITING, mode=Mode.STRICT)
    assert case.proposal is not None
    some = [a for a in case.proposal.trim.actions if not a.kept]
    actions = tuple(replace(some[n % len(some)], action=f"{some[n % len(some)].action}{n:03}") for n in range(400))
    return replace(case, proposal=replace(case.proposal, trim=replace(case.proposal.trim, actions=actions)))


def many_cases(number: int) -> list[Case]:
    """Return cases in all states, each with a name of its own."""
    states = list(CaseState)
    made = []
    for n in range(number):
        case = case_in(states[n % len(states)], role=PARTNER if n % 3 == 0 else APPLICATION)
        arn = f"{case.role_arn}{n:03}"
        made.append(replace(case, id=CaseId(f"c0ffee{n:03}"), role_arn=arn))
    return made


@pytest.mark.parametrize("room", ["cards", "threads", "dialogs", "lists"])
async def test_pictures(room: str) -> None:
    """Every card state, the review with a service opened, proposal, dialogs, App Home, digest: drawn without a flaw."""
    async with chromium() as browser, gallery(browser) as look:
        await getattr(look, room)()
        assert look.wrong == []
