"""What the doctor asks Slack: tokens, scopes, the channel, the approvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from bot.errors import RefineError
from bot.model import UserId

if TYPE_CHECKING:
    from bot.messages.slack.client import Slack

# Every scope the bot asks for, with what it is for; the manifest and the doctor read this.
SCOPES: Final[Mapping[str, str]] = {
    "chat:write": "post and redraw cards",
    "commands": "/refine and the shortcuts",
    "files:write": "put reports and policies into the threads",
    "users:read": "tell members from guests, strangers and bots",
    "usergroups:read": "read who is in the approvers' group",
    "channels:read": "see that the channel is not shared with another organization",
    "channels:history": "find a post whose answer was lost, so that it is not posted twice",
    "groups:read": "the same for a private channel",
    "groups:history": "the same for a private channel",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that the doctor looked at, and what to do about it."""

    state: Literal["ok", "warn", "fail"]
    sentence: str
    todo: str = ""


async def checks(slack: Slack, channel: str, app_token: str, approvers: Sequence[str]) -> list[Check]:
    """Look at tokens, scopes, the channel and the approvers, and say for each what to do."""
    try:
        answer = await slack.call("asking who the bot is", slack.client.auth_test())
    except RefineError as error:
        return [
            Check(
                state="fail",
                sentence=f"SLACK_BOT_TOKEN does not work: {error.sentence}",
                todo="Copy the bot token from OAuth & Permissions on the app's page at api.slack.com/apps.",
            )
        ]
    me: Mapping[str, Any] = answer.data
    found = [Check(state="ok", sentence=f"Slack knows the bot as @{me.get('user')} in {me.get('team')}.")]
    place, private = await _channel(slack, channel)
    found += [_scopes(answer.headers, private), place]
    if app_token:
        found.append(await _socket(slack, app_token))
    found += [await _approver(slack, each) for each in approvers]
    return found


async def _channel(slack: Slack, channel: str) -> tuple[Check, bool | None]:
    try:
        answer = await slack.ask("looking at the channel", slack.client.conversations_info(channel=channel))
    except RefineError as error:
        return Check(
            state="fail",
            sentence=f"REFINE_CHANNEL {channel} cannot be read: {error.sentence}",
            todo=error.next_step,
        ), None
    info: Mapping[str, Any] = answer["channel"]
    private = bool(info.get("is_private"))
    name = f"REFINE_CHANNEL #{info.get('name', channel)}"
    if info.get("is_archived"):
        return Check(state="fail", sentence=f"{name} is archived.", todo="Unarchive it or set another."), private
    if any(
        info.get(k) for k in ("is_ext_shared", "is_pending_ext_shared", "pending_shared", "pending_connected_team_ids")
    ):
        return Check(
            state="fail",
            sentence=f"{name} is shared with another organization: its people would read every card.",
            todo="Set REFINE_CHANNEL to a channel of your own workspace.",
        ), private
    if not info.get("is_member"):
        return Check(
            state="fail",
            sentence=f"The bot is not in {name}.",
            todo="Type /invite and the bot's name in the channel.",
        ), private
    return Check(state="ok", sentence=f"The bot is in {name}."), private


async def _socket(slack: Slack, app_token: str) -> Check:
    try:
        await slack.ask("opening a socket", slack.client.apps_connections_open(app_token=app_token))
    except RefineError as error:
        return Check(
            state="fail",
            sentence=f"SLACK_APP_TOKEN opens no socket: {error.sentence}",
            todo="Make an app-level token with the scope connections:write, and turn Socket Mode on.",
        )
    return Check(state="ok", sentence="SLACK_APP_TOKEN opens Socket Mode connections.")


async def _approver(slack: Slack, approver: str) -> Check:
    try:
        if approver.startswith("S"):
            members = await slack.group_members(approver)
            if not members:
                return Check(
                    state="fail",
                    sentence=f"The user group {approver} of REFINE_APPROVERS is empty or disabled.",
                    todo="Add people to it in Slack.",
                )
            return Check(
                state="ok", sentence=f"The user group {approver} of REFINE_APPROVERS has {len(members)} people."
            )
        person = await slack.person(UserId(approver))
    except RefineError as error:
        return Check(
            state="fail",
            sentence=f"{approver} of REFINE_APPROVERS cannot be read: {error.sentence}",
            todo=error.next_step or "Check REFINE_APPROVERS.",
        )
    if person.deleted or person.bot or person.guest or person.stranger:
        return Check(
            state="warn",
            sentence=f"{approver} of REFINE_APPROVERS may not approve: a full, active member of the workspace may.",
            todo="Take them out of REFINE_APPROVERS.",
        )
    return Check(state="ok", sentence=f"{approver} of REFINE_APPROVERS is {person.name}.")


def _scopes(headers: Mapping[str, str], private: bool | None) -> Check:
    """Compare the scopes that Slack says the token has with those needed for a public or a private channel."""
    granted = {s.strip() for k, v in headers.items() if k.lower() == "x-oauth-scopes" for s in v.split(",")}
    if not granted:
        return Check(
            state="warn",
            sentence="Slack does not say which scopes the token has.",
            todo="Compare them with the manifest.",
        )
    spared = () if private is None else ("channels:",) if private else ("groups:",)
    missing = [s for s in SCOPES if s not in granted and not s.startswith(tuple(spared))]
    if missing:
        return Check(
            state="fail",
            sentence="The bot token lacks " + ", ".join(f"{s} (to {SCOPES[s]})" for s in missing) + ".",
            todo="Paste the output of `refine manifest` as the app's manifest, and install the app again.",
        )
    return Check(state="ok", sentence=f"The bot token has the {len(SCOPES)} scopes it needs.")
