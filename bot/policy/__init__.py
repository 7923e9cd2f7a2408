"""The policy engine: what to keep, what to drop, why, and the proof. Pure; needs neither AWS nor Slack."""

from bot.policy.catalogue import Catalogue, load_catalogue
from bot.policy.check import check
from bot.policy.engine import trim
from bot.policy.give import GIVEN, give, prove
from bot.policy.language import parse, size
from bot.policy.rehearse import Call, Rehearsal, calls_of, rehearse
from bot.policy.summary import Permits, permits_summary

__all__ = [
    "GIVEN",
    "Call",
    "Catalogue",
    "Permits",
    "Rehearsal",
    "calls_of",
    "check",
    "give",
    "load_catalogue",
    "parse",
    "permits_summary",
    "prove",
    "rehearse",
    "size",
    "trim",
]
