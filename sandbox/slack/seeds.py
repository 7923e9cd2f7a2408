"""Who and what is in the local workspace when it starts."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

TEAM = {"id": "T0REFINE", "name": "Acme", "domain": "acme"}
OTHER_TEAM = "T0OTHER"
APP_ID = "A0REFINE"
BOT_ID = "B0REFINE"
BOT_USER = "U0REFINE"
BOT_NAME = "Refine"
SECURITY = "C0SECURITY"
GENERAL = "C0GENERAL"
APPROVERS = "S0APPROVERS"

BOT_TOKEN = "xoxb-local-refine"
APP_TOKEN = "xapp-local-refine"
SIGNING_SECRET = "local-signing-secret"
VERIFICATION_TOKEN = "local-verification-token"

SCOPES = frozenset(
    {
        "channels:history",
        "channels:read",
        "chat:write",
        "commands",
        "files:write",
        "groups:history",
        "groups:read",
        "usergroups:read",
        "users:read",
    }
)
"""What the app was installed with: what its manifest asks for."""
MORE_SCOPES = frozenset({"im:write", "reactions:write", "team:read"})
"""What the other methods need that are here."""

COMMANDS = [
    {
        "command": "/refine",
        "description": "Review an externally accessible IAM role",
        "usage_hint": "ApplicationRole",
    }
]
SHORTCUTS = [
    {"callback_id": "refine_role", "name": "Refine a role", "type": "global"},
    {"callback_id": "refine_message", "name": "Refine the role in this message", "type": "message"},
]


def _user(user_id: str, name: str, real_name: str, title: str, kind: str, **flags: Any) -> Json:
    """Return a user as users.info has it, and the `kind` that the page shows."""
    return {
        "id": user_id,
        "team_id": TEAM["id"],
        "name": name,
        "deleted": False,
        "real_name": real_name,
        "tz": "Etc/UTC",
        "tz_offset": 0,
        "profile": {"real_name": real_name, "display_name": name, "title": title, "team": TEAM["id"]},
        "is_admin": False,
        "is_owner": False,
        "is_primary_owner": False,
        "is_restricted": False,
        "is_ultra_restricted": False,
        "is_bot": False,
        "is_app_user": False,
        "updated": 1700000000,
        "is_email_confirmed": True,
        **flags,
        "kind": kind,
    }


def users() -> dict[str, Json]:
    people = [
        _user("U0ANN", "ann", "Ann Approver", "Cloud security", "approver"),
        _user("U0BEN", "ben", "Ben Approver", "Platform engineering", "approver"),
        _user("U0RITA", "rita", "Rita Requester", "Application team", "requester"),
        _user("U0GUS", "gus", "Gus Guest", "Contractor", "guest", is_restricted=True),
        _user("U0STAN", "stan", "Stan Stranger", "Another company", "stranger", team_id=OTHER_TEAM, is_stranger=True),
        _user("U0DORA", "dora", "Dora Deactivated", "Left last year", "deactivated", deleted=True),
        _user("U0ROBO", "robo", "Robo Bot", "Some other app", "bot", is_bot=True),
        _user(BOT_USER, "refine", BOT_NAME, "This app", "bot", is_bot=True),
    ]
    people[-1]["profile"] |= {"bot_id": BOT_ID, "api_app_id": APP_ID}
    return {each["id"]: each for each in people}


def groups() -> dict[str, Json]:
    members = ["U0ANN", "U0BEN", "U0DORA", "U0GUS"]
    return {
        APPROVERS: {
            "id": APPROVERS,
            "team_id": TEAM["id"],
            "is_usergroup": True,
            "name": "Refine approvers",
            "description": "May approve what Refine proposes",
            "handle": "refine-approvers",
            "is_external": False,
            "date_create": 1700000000,
            "date_update": 1700000000,
            "date_delete": 0,
            "user_count": len(members),
            "users": members,
        }
    }


def channel(channel_id: str, name: str, topic: str, members: set[str], **flags: Any) -> Json:
    """Return a conversation as conversations.info has it, and its `members`."""
    return {
        "id": channel_id,
        "name": name,
        "name_normalized": name,
        "created": 1700000000,
        "is_channel": True,
        "is_group": False,
        "is_im": False,
        "is_mpim": False,
        "is_private": False,
        "is_archived": False,
        "is_general": channel_id == GENERAL,
        "is_shared": False,
        "is_ext_shared": False,
        "is_org_shared": False,
        "is_pending_ext_shared": False,
        "pending_shared": [],
        "context_team_id": TEAM["id"],
        "topic": {"value": topic, "creator": "U0ANN", "last_set": 1700000000},
        "purpose": {"value": topic, "creator": "U0ANN", "last_set": 1700000000},
        **flags,
        "members": members,
    }


def channels() -> dict[str, Json]:
    everyone = set(users())
    return {
        SECURITY: channel(SECURITY, "cloud-security", "Roles that can be assumed from outside", set(everyone)),
        GENERAL: channel(GENERAL, "general", "Everything else", set(everyone)),
    }
