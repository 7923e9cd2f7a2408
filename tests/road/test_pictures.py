"""Pictures of what people see: every state of a card, review, proposal, dialogs, App Home, digest.

Drawn by `bot.messages` from realistic cases and posted into a local Slack, where its validators have their say; then
looked at by Chromium, wide and narrow, light and dark. The pictures land in artifacts/pictures, for people to look at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect
from slack_sdk.web.async_client import AsyncWebClient

from bot import messages
from bot.messages.lists import PAGE
from bot.model import Case, CaseId, CaseState, Mode
from bot.rules import Button
from sandbox.slack import LocalSlack
from tests.messages.cases import (
    ANN,
    APPLICATION,
    COUNTS,
    NOW,
    PARTNER,
    PERSON,
    TEAM,
    case_in,
    permits,
    proposed,
    reviewed,
)
from tests.road.test_browser import NARROW, PICTURES, WIDE, chromium
from tests.sandbox.slack_echo import Echo, echo

pytestmark = pytest.mark.browser

CHANNEL = "C0SECURITY"
LOOKS = [(scheme, size) for scheme in ("light", "dark") for size in ("wide", "narrow")]
SIZES = {"wide": WIDE, "narrow": NARROW}
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

    async def go(self, place: str = CHANNEL, thread: str = "", user: str = ANN) -> None:
        await self.page.evaluate(f"location.hash = 'as={user}&in={place}&thread={thread}'")

    async def picture(self, name: str, locator: str | None = None) -> None:
        """One picture each; of an element whole where one is named, else of the window."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        for scheme, size in LOOKS:
            await self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            await self.page.set_viewport_size(SIZES[size])  # type: ignore[arg-type]
            sideways = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not await self.page.evaluate(sideways), f"{name} scrolls sideways ({size})"
            path = PICTURES / f"{name}-{size}-{scheme}.png"
            if locator is None:
                await self.page.screenshot(path=path)
            else:
                await self.page.locator(locator).last.screenshot(path=path)


@asynccontextmanager
async def gallery(browser: Browser) -> AsyncIterator[Gallery]:
    slack = LocalSlack(now=lambda: NOW.timestamp())
    slack.api.paced = False
    await slack.start()
    try:
        async with echo(slack) as bot:
            page = await browser.new_page(viewport=WIDE)  # type: ignore[arg-type]
            # A clock of their own: what the cases call "today" stays so, and the pictures do not age.
            await page.clock.install(time=NOW)
            await page.add_init_script("localStorage.setItem('refine.welcomed', 'yes')")
            await page.goto(slack.url)
            yield Gallery(slack, bot, page)
            await page.close()
    finally:
        await slack.stop()


def drawn_card(state: CaseState, role: Any = APPLICATION) -> dict[str, Any]:
    return messages.card(case_in(state, role=role), NOW, permits(role), team=TEAM)


def many_cases(number: int) -> list[Case]:
    """Return cases in all states, each with a name of its own."""
    states = list(CaseState)
    made = []
    for n in range(number):
        case = case_in(states[n % len(states)], role=PARTNER if n % 3 == 0 else APPLICATION)
        arn = f"{case.role_arn}{n:03}"
        made.append(replace(case, id=CaseId(f"c0ffee{n:03}"), role_arn=arn))
    return made


async def test_pictures() -> None:
    """Every card state, the review with a service opened, proposal, dialogs, App Home, digest: drawn without a flaw."""
    async with chromium() as browser, gallery(browser) as look:
        for state in CaseState:
            await look.post(drawn_card(state))
            await look.go()
            await expect(look.page.get_by_test_id("message").last).to_contain_text("ApplicationRole")
            await look.picture(f"card-{state}", '[data-testid="message"]')
        assert look.wrong == []
