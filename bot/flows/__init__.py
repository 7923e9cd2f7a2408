"""The stories: watch, review, propose, decide, apply, roll back, and the outbox that tells of them."""

from bot.flows.desk import Answer, Desk
from bot.flows.world import World

__all__ = ["Answer", "Desk", "World"]
