"""The only code that talks to AWS."""

from bot.aws.clients import AwsSettings
from bot.aws.doctor import Check
from bot.aws.findings import FindingsRead
from bot.aws.gateway import Aws
from bot.aws.judge import Simulated
from bot.aws.roles import RoleRef
from bot.aws.write import Made

__all__ = ["Aws", "AwsSettings", "Check", "FindingsRead", "Made", "RoleRef", "Simulated"]
