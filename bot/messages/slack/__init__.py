"""Slack's Web API in the bot's words."""

from bot.messages.slack.checks import SCOPES, Check
from bot.messages.slack.client import Slack, View, web_client

__all__ = ["SCOPES", "Check", "Slack", "View", "web_client"]
