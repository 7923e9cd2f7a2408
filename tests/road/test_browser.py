"""The whole road on the demo's page, in headless Chromium, with pictures of every stop."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from sandbox.stage import stage
from tests.road.test_road import TWO
from tests.road.walk import ANN, BEN, GUS, HUB, RITA

pytestmark = pytest.mark.browser

PICTURES = Path(__file__).parent.parent.parent / "artifacts" / "pictures"
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
PATIENCE = 40_000  # milliseconds


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert program is not None, "The browser tests need Chromium: sudo apt-get install chromium"
    # Debian's Chromium looks up its maker's hosts at every start, and this machine may have no way out.
    quiet = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=program, args=[*quiet.split(), *sandbox])
        try:
            yield browser
        finally:
            await browser.close()


class Visitor:
    """A person at the page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    async def be(self, user: str) -> None:
        await self.page.get_by_test_id("user-switch").click()
        await self.page.locator(f'[data-testid="user-option"][data-user="{user}"]').click()

    def card(self, role: str) -> Locator:
        return self.page.get_by_test_id("message").filter(has=self.page.get_by_role("heading", name=role)).last

    def thread(self) -> Locator:
        return self.page.get_by_test_id("thread")

    async def press(self, where: Locator, action_id: str) -> None:
        await where.locator(f'[data-action-id="{action_id}"]').last.click()

    def modal(self) -> Locator:
        return self.page.get_by_test_id("modal").last

    async def picture(self, name: str, of: Locator | None = None) -> None:
        """One picture each, light and dark, wide and narrow, with `of` in sight."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            for size, viewport in (("wide", WIDE), ("narrow", NARROW)):
                await self.page.emulate_media(color_scheme=scheme)
                await self.page.set_viewport_size(viewport)
                await self.page.wait_for_timeout(400)  # the drawer slides away
                if of is not None:
                    await of.scroll_into_view_if_needed()
                await self.page.screenshot(path=PICTURES / f"{name}-{size}-{scheme}.png")
                sideways = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
                assert not await self.page.evaluate(sideways), f"{name} scrolls sideways ({size})"
        await self.page.emulate_media(color_scheme="light")
        await self.page.set_viewport_size(WIDE)


async def test_the_road_on_the_page(tmp_path: Path) -> None:
    """Card, review, propose, refused approvals, approval, applied, verified, rolled back: as anybody can click it."""
    async with stage(tmp_path) as running, chromium() as browser:
        before = running.aws.snapshot(HUB, "ApplicationRole")
        page = await browser.new_page(viewport=WIDE)
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        visitor = Visitor(page)
        await page.goto(running.slack.url)
        await expect(visitor.card("ApplicationRole")).to_be_visible()
        await visitor.picture("1-channel")
        await page.get_by_test_id("welcome-dismiss").click()

        await visitor.be(RITA)
        card = visitor.card("ApplicationRole")
        await card.scroll_into_view_if_needed()
        await visitor.press(card, "case:review")
        await card.get_by_test_id("reply-line").click()
        await card.scroll_into_view_if_needed()
        await expect(visitor.thread().get_by_text("DescribeTable").first).to_be_visible()
        await visitor.picture("2-review")

        await visitor.be(ANN)
        await visitor.press(visitor.thread(), "case:propose_strict")
        await expect(visitor.thread().locator('[data-action-id="case:approve"]').last).to_be_visible()
        await visitor.picture("3-proposal", visitor.thread().get_by_text("Proved by a checker"))

        for user, why in ((ANN, "somebody else has to approve"), (GUS, "Guests may not act")):
            await visitor.be(user)
            await visitor.press(visitor.thread(), "case:approve")
            await expect(visitor.thread().get_by_test_id("ephemeral").last.get_by_text(why)).to_be_visible()
            await visitor.picture(f"4-refused-{user}")
        assert running.aws.snapshot(HUB, "ApplicationRole") == before

        await visitor.be(BEN)
        await visitor.press(visitor.thread(), "case:approve")
        await visitor.modal().locator("textarea, input[type=text]").first.fill("Only these two are in use.")
        await visitor.picture("5-approve")
        await visitor.modal().get_by_test_id("modal-submit").click()
        await expect(visitor.thread().locator('[data-action-id="case:roll_back"]').last).to_be_visible()
        await visitor.picture("6-applied", visitor.thread().locator('[data-action-id="case:roll_back"]').last)
        [policy] = running.aws.snapshot(HUB, "ApplicationRole")["attached"].values()
        assert sorted(json.loads(policy["document_text"])["Statement"][0]["Action"]) == TWO

        await visitor.press(visitor.thread(), "case:roll_back")
        await visitor.modal().locator("textarea, input[type=text]").first.fill("The vendor asked for it.")
        await visitor.modal().get_by_test_id("modal-submit").click()
        await expect(visitor.thread().locator('[data-action-id="case:roll_back"]')).to_have_count(0)
        await expect(
            visitor.thread().get_by_test_id("message").last.get_by_text("Rolled back", exact=True)
        ).to_be_visible()
        await visitor.picture("7-rolled-back", visitor.thread().get_by_text("Proved by digest").last)
        assert running.aws.snapshot(HUB, "ApplicationRole") == before
        assert visitor.errors == []
