"""Slack's errors in the bot's words.

What was asked for is gone or closed to the bot: `NotFoundError`; the token or a scope is missing: `DeniedError`; Slack
wants less of it: `ThrottledError`; it refused the payload: `RefusedError`, and for a picture in it `NoPictureError`; a
post may or may not have arrived: `UnknownOutcomeError`; anything else can be asked again: `UnavailableError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog
from slack_sdk.errors import SlackApiError

from bot.errors import (
    DeniedError,
    NotFoundError,
    RefineError,
    RefusedError,
    StaleError,
    ThrottledError,
    UnavailableError,
    UnknownOutcomeError,
)

log = structlog.get_logger()

_GONE: Final[Mapping[str, tuple[str, str]]] = {
    "channel_not_found": (
        "Slack does not show the channel to the bot.",
        "Invite the bot to the channel and check REFINE_CHANNEL.",
    ),
    "not_in_channel": ("The bot is not in the channel.", "Invite the bot to the channel."),
    "user_not_in_channel": ("The person is not in the channel.", "Join the channel of the cards."),
    "is_archived": ("The channel is archived.", "Unarchive it, or set REFINE_CHANNEL to another one."),
    "message_not_found": ("The message is gone from Slack.", "Ask for the role with /refine."),
    "thread_not_found": ("The thread is gone from Slack.", "Ask for the role with /refine."),
    "cannot_reply_to_message": ("The thread is gone from Slack.", "Ask for the role with /refine."),
    "user_not_found": ("Slack does not know the person.", ""),
    "users_not_found": ("Slack does not know the person.", ""),
    "user_not_visible": ("Slack does not show the person to the bot.", ""),
    "no_such_subteam": ("Slack has no such user group.", "Check REFINE_APPROVERS."),
    "subteam_not_found": ("Slack has no such user group.", "Check REFINE_APPROVERS."),
    "view_not_found": ("The dialog was closed.", "Press the button again."),
    "not_found": ("The dialog was closed.", "Press the button again."),
}
_STALE: Final = frozenset({"hash_conflict", "expired_trigger_id", "exchanged_trigger_id", "invalid_trigger_id"})
_TOKEN: Final = frozenset(
    {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "org_login_required"}
)
_SCOPE: Final = frozenset(
    {"missing_scope", "not_allowed_token_type", "no_permission", "access_denied", "ekm_access_denied"}
)
# "It's possible some aspect of the operation succeeded before the error was raised."
# Source: https://docs.slack.dev/reference/methods/chat.postMessage, errors
_DOUBT: Final = frozenset({"fatal_error", "internal_error", "service_unavailable", "request_timeout", ""})


class NoPictureError(RefusedError):
    """Slack does not show the picture in the payload: it is not processed yet, or gone."""


def translated(error: SlackApiError, doing: str, *, sends: bool) -> RefineError:
    """Return the bot's own error for one of Slack's."""
    response = error.response
    # Where the answer is no JSON at all, the SDK hands over aiohttp's response instead of its own.
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0) or 0)
    data = getattr(response, "data", None)
    code = str(data.get("error") or "") if isinstance(data, dict) else ""
    if status == 429 or code in {"ratelimited", "rate_limited"}:
        return ThrottledError(f"Slack asked to slow down while {doing}.", "It goes on by itself.")
    if code in _GONE:
        return NotFoundError(*_GONE[code])
    if code in _STALE:
        return StaleError(
            "The dialog was redrawn meanwhile." if code == "hash_conflict" else "Slack did not wait for the dialog.",
            "Press the button again.",
        )
    if code in _TOKEN:
        return DeniedError(f"Slack does not take the token ({code}).", "Check SLACK_BOT_TOKEN and SLACK_APP_TOKEN.")
    if code in _SCOPE:
        needed = str(data.get("needed", "")) if isinstance(data, dict) else ""
        return DeniedError(
            f"Slack refused {doing} ({code}{': ' + needed if needed else ''}).",
            "Add the scopes of the manifest to the app and install it again.",
        )
    if status >= 500 or code in _DOUBT:
        return lost(doing, code or f"status {status}", sends=sends)
    # Where in the payload the fault is ("[json-pointer:/blocks/3]"): for whoever mends it, not for the clicker.
    where = (data.get("response_metadata") or {}).get("messages") if isinstance(data, dict) else None
    if "slack_file" in str(where):
        return NoPictureError(f"Slack refused {doing} (its picture).")
    log.error("slack refused a payload", doing=doing, code=code, where=where)
    return RefusedError(f"Slack refused {doing} ({code}).", "This is a bug in Refine: please report it.")


def lost(doing: str, why: str, *, sends: bool) -> RefineError:
    if sends:
        return UnknownOutcomeError(
            f"Slack gave no answer while {doing} ({why}).", "It is looked for before another try."
        )
    return UnavailableError(f"Slack gave no answer while {doing} ({why}).", "Try again in a minute.")
