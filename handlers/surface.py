"""What every listener has at hand: the desk, the jobs, Slack, and the one place where an error becomes an answer."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import structlog

from bot.errors import NotFoundError, RefineError, StaleError
from bot.flows import Answer, Desk
from bot.messages.slack import Slack
from handlers.jobs import Jobs
from handlers.request import Body, Request, Screen

log = structlog.get_logger()

View = dict[str, Any]
R = TypeVar("R", bound=Request)

LOADING: Final = "Loading…"
_MENTION: Final = re.compile(r"&lt;(@[UW][A-Z0-9]{1,20})&gt;")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    desk: Desk
    jobs: Jobs
    slack: Slack

    def spawn(self, body: Body, read: Callable[[Body], R], act: Callable[[Surface, R], Awaitable[None]]) -> None:
        """Read the body and act on it after the acknowledgement.

        Bolt takes an acknowledgement back where its listener raises soon after it, so that nothing is done before
        this call but `await ack()`.
        """
        self.jobs.spawn(self._run(body, read, act))

    async def _run(self, body: Body, read: Callable[[Body], R], act: Callable[[Surface, R], Awaitable[None]]) -> None:
        request = read(body)
        await self.guard(request, act(self, request))

    async def guard(self, request: Request, work: Awaitable[None]) -> None:
        """Do the work; tell the person, and nobody else, what kept it from being done."""
        try:
            with self.desk.of_request(request.id):
                await work
        except RefineError as error:
            log.info("refused", code=error.code, why=error.sentence, user=request.user)
            await self._tell(request, error.say())
        except Exception:
            reference = uuid.uuid4().hex[:8]
            log.exception("handler crashed", reference=reference, user=request.user)
            await self._tell(
                request,
                f"Something went wrong on our side. Try again, or give the reference {reference} to whoever runs "
                "Refine: its log has the details.",
            )

    async def _tell(self, request: Request, sentence: str) -> None:
        text = escaped(sentence)
        try:
            if request.screen is not None and request.in_modal:
                await self.slack.update_view(request.screen.id, dialog(text))
            else:
                await self.answer(request, Answer(text=text))
        except NotFoundError:
            log.info("nobody there to tell", user=request.user)  # they closed the dialog
        except RefineError as error:
            log.warning("could not be told", why=error.sentence, user=request.user)

    async def answer(self, request: Request, answer: Answer, *, replace: bool = False) -> None:
        """Show something to the person alone: on top of where they are, in a dialog, or else ephemerally.

        With `replace`, it takes the place of what they clicked in, where that is for them alone.
        """
        if request.screen is not None:
            try:
                await self.slack.open_view(
                    request.trigger_id, dialog(answer.text, answer.blocks), push=request.in_modal
                )
            except RefineError:
                log.info("dialog did not open", user=request.user)  # too late for it: as a message, then
            else:
                return
        await self.slack.ephemeral(
            request.channel,
            request.user,
            answer.text,
            answer.blocks,
            request.thread_ts,
            request.response_url,
            replace=replace and request.whispered,
        )

    async def loading(self, request: R) -> R:
        """Open a dialog at once, for Slack waits three seconds for it; return the request as seen from there."""
        view = await self.slack.open_view(request.trigger_id, dialog(LOADING), push=request.in_modal)
        return replace(request, screen=Screen(id=view.id, hash=view.hash))

    async def show(self, request: Request, view: View) -> None:
        """Draw the dialog that the request is in, unless it was drawn anew meanwhile."""
        assert request.screen is not None
        try:
            await self.slack.update_view(request.screen.id, view, request.screen.hash)
        except StaleError:
            log.info("dialog drawn anew meanwhile", user=request.user)  # a second click: its drawing is the newer one


def escaped(sentence: str) -> str:
    """Return an error's sentence as mrkdwn: data stays data, and a person who is mentioned is shown by name."""
    text = sentence.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MENTION.sub(r"<\1>", text)


def dialog(text: str, blocks: list[dict[str, Any]] | None = None) -> View:
    """Return a modal that only says something; `text` is mrkdwn."""
    said = {"type": "section", "text": {"type": "mrkdwn", "text": text[:3000], "verbatim": True}}
    return {
        "type": "modal",
        "title": {"type": "plain_text", "text": "Refine", "emoji": False},
        "close": {"type": "plain_text", "text": "Close", "emoji": False},
        "blocks": blocks or [said],
    }
