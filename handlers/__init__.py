"""What Slack calls: one module a surface. Each listener acknowledges, hands over to one flow, and stops."""

from __future__ import annotations

from slack_bolt.async_app import AsyncApp
from slack_bolt.request.async_request import AsyncBoltRequest

from bot.errors import UnavailableError
from bot.flows import Desk
from bot.messages.slack import Slack
from handlers import buttons, commands, home, shortcuts, views
from handlers.jobs import Jobs
from handlers.surface import Surface

__all__ = ["Jobs", "register", "warm_up"]


def register(app: AsyncApp, desk: Desk, jobs: Jobs, slack: Slack) -> None:
    """Register every listener; the one for what nobody else answers comes last."""
    surface = Surface(desk=desk, jobs=jobs, slack=slack)
    for each in (buttons, views, commands, home, shortcuts):
        each.register(app, surface)
    buttons.register_rest(app, surface)


async def warm_up(app: AsyncApp) -> None:
    """Let Bolt ask Slack who it is now: it does so at the first request, within the three seconds of somebody's click.

    Raises:
        UnavailableError: Slack did not say. Bolt would then take clicks and drop them.
    """
    body = {"type": "block_actions", "user": {"id": "U0"}, "actions": [{"action_id": "link:warm_up", "block_id": ""}]}
    answer = await app.async_dispatch(AsyncBoltRequest(mode="socket_mode", body=body))
    if answer.status != 200 or answer.body:
        raise UnavailableError(
            "Slack did not say who the bot is.", "Check SLACK_BOT_TOKEN: `refine doctor` tells more."
        )
