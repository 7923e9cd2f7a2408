"""Walking the road as people do: by what Slack shows, never by what the store holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sandbox.stage import Stage

ANN, BEN, RITA, GUS, STAN, DORA, ROBO = "U0ANN", "U0BEN", "U0RITA", "U0GUS", "U0STAN", "U0DORA", "U0ROBO"
HUB = "123456789012"


def key(message: dict[str, Any]) -> str:
    """The key under which the bot's outbox posted the message."""
    return str(message.get("metadata", {}).get("event_payload", {}).get("key", ""))


def shown(thing: Any) -> str:
    """Everything that a person could read in a message or view, as one text."""
    return json.dumps(thing, ensure_ascii=False)


def buttons(thing: Any) -> list[str]:
    """The action ids in a message or view, in order."""
    if isinstance(thing, dict):
        mine = [thing["action_id"]] if "action_id" in thing else []
        return mine + [b for v in thing.values() for b in buttons(v)]
    if isinstance(thing, list):
        return [b for v in thing for b in buttons(v)]
    return []


class Walk:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.slack = stage.slack

    async def card(
        self, role: str, *also: str, without: str = "", account: str = "", timeout: float = 40
    ) -> dict[str, Any]:
        """The role's card, once it offers the given buttons."""

        def find() -> dict[str, Any] | None:
            for message in self.slack.messages():
                header = next((b for b in message["blocks"] if b["type"] == "header"), None)
                if header is not None and role in header["text"]["text"].split() and account in message["text"]:
                    offered = buttons(message)
                    if set(also) <= set(offered) and without not in offered:
                        return message
            return None

        return await self._wait(find, timeout)

    async def reply(self, card: dict[str, Any], name: str, timeout: float = 40) -> dict[str, Any]:
        """The latest message of that name in the card's thread."""

        def find() -> dict[str, Any] | None:
            found = [m for m in self.slack.thread(card["ts"]) if key(m).startswith(f"{name}/")]
            return found[-1] if found else None

        return await self._wait(find, timeout)

    async def modal(self, user: str, text: str = "", timeout: float = 10) -> dict[str, Any]:
        """The user's modal, once it holds the text."""

        def find() -> dict[str, Any] | None:
            view = self.slack.view(user)
            return view if view is not None and text in shown(view) and "Loading" not in shown(view) else None

        return await self._wait(find, timeout)

    async def whisper(self, user: str, text: str, timeout: float = 10) -> dict[str, Any]:
        """What only that user was told, once it holds the text."""
        return await self._wait(
            lambda: next((e for e in self.slack.ephemerals(user) if text in shown(e)), None), timeout
        )

    async def click(self, user: str, message: dict[str, Any], action_id: str, **more: Any) -> None:
        ack = await self.slack.click(user, message["ts"], action_id, **more)
        assert ack.ok, f"{action_id} was not acknowledged"

    async def submit(self, user: str, **values: str) -> None:
        ack = await self.slack.submit(user, {(block, INPUTS[block]): value for block, value in values.items()})
        assert ack.ok, "the submission was not acknowledged"

    async def _wait(self, find: Callable[[], Any], timeout: float) -> Any:
        await self.slack.until(find, timeout=timeout)
        found = find()
        assert found is not None
        return found


INPUTS = {
    "reason": "text",
    "days": "pick",
    "owner": "pick",
    "window": "pick",
    "mode": "pick",
    "keep": "patterns",
    "actions": "pick",
}
