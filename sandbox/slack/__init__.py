"""A local Slack: the Web API, Socket Mode or signed HTTP, and people who click, on one port of this machine.

It refuses what Slack refuses, by Slack's names, and breaks where it is told to.
"""

from sandbox.slack.delivery import Ack
from sandbox.slack.server import LocalSlack

__all__ = ["Ack", "LocalSlack"]
