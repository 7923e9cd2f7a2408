"""What people read in Slack: stored state in, payload out. All pure; templates hold the layout."""

from bot.messages.cards import card, owner
from bot.messages.lists import (
    Glance,
    burst_summary,
    help_text,
    history,
    list_cases,
    near_matches,
    status,
    weekly_digest,
)
from bot.messages.manifest import manifest
from bot.messages.outcomes import (
    applied,
    aside_line,
    expired,
    notice,
    outcome,
    reminder,
    rolled_back,
    second,
)
from bot.messages.pictures import Drawing, Picture, Removed, Services
from bot.messages.proposals import approved_line, declined_line, proposal, proposal_files
from bot.messages.reviews import review, review_files, review_picture, review_service
from bot.messages.sums import Counts
from bot.messages.views import explain, home, modal

__all__ = [
    "Counts",
    "Drawing",
    "Glance",
    "Picture",
    "Removed",
    "Services",
    "applied",
    "approved_line",
    "aside_line",
    "burst_summary",
    "card",
    "declined_line",
    "expired",
    "explain",
    "help_text",
    "history",
    "home",
    "list_cases",
    "manifest",
    "modal",
    "near_matches",
    "notice",
    "outcome",
    "owner",
    "proposal",
    "proposal_files",
    "reminder",
    "review",
    "review_files",
    "review_picture",
    "review_service",
    "rolled_back",
    "second",
    "status",
    "weekly_digest",
]
