"""A local AWS: moto's IAM and STS made as strict as AWS, with Access Analyzer, last accessed reports and faults."""

from sandbox.aws.local import HUB, MEMBER, LocalAws, start

__all__ = ["HUB", "MEMBER", "LocalAws", "start"]
