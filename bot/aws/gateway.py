"""The gateway: what the flows and the operator's commands call. Typed values in and out, errors of `bot.errors`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self

from bot.aws import doctor, judge
from bot.aws.clients import AwsSettings, Clients
from bot.aws.doctor import Check
from bot.aws.evidence import Reports
from bot.aws.findings import Findings, FindingsRead
from bot.aws.judge import Simulated
from bot.aws.roles import RoleRef, Roles
from bot.aws.write import Made, nothing_more, write
from bot.errors import RefineError
from bot.model import Evidence, Finding, Role, RolePolicy, Step
from bot.rules import Permit


class Aws:
    """AWS, for one deployment. An async context manager: it holds clients open until it ends."""

    def __init__(self, settings: AwsSettings) -> None:
        self._clients = Clients(settings)
        self._roles = Roles(self._clients)
        self._findings = Findings(self._clients)
        self._reports = Reports(self._clients)

    async def __aenter__(self) -> Self:
        await self._clients.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._clients.__aexit__(*exc)

    async def whoami(self) -> tuple[str, str]:
        """Return the account and the ARN of the bot's own credentials."""
        return await self._clients.whoami()

    async def findings(self) -> FindingsRead:
        """Return the external access findings on roles, active and archived; what could not be read is said with them.

        Raises:
            ConfigError: no Region is known to look in.
        """
        return await self._findings.read()

    async def archive(self, findings: Sequence[Finding], *, archived: bool) -> None:
        """Archive findings of one analyzer, or make them active again.

        It changes what Access Analyzer lists, and never who may do what: so it asks for no permit.

        Raises:
            NotFoundError: one of them is gone, and none was changed.
            RefineError: AWS refused, or could not be asked.
        """
        await self._findings.archive(findings, archived=archived)

    async def role(self, arn_or_name: str, account: str | None = None) -> Role:
        """Return a role by ARN, or by name (in the bot's own account where none is given).

        Raises:
            NotFoundError: there is no such role.
        """
        return await self._roles.role(arn_or_name, account)

    async def roles(self) -> tuple[RoleRef, ...]:
        """Return every role of the bot's own account."""
        return await self._roles.roles()

    async def policy(self, arn: str, *, role_arn: str) -> RolePolicy | None:
        """Return a managed policy as the role's account sees it; None where there is none."""
        return await self._roles.policy(arn, role_arn=role_arn)

    async def room(self, role_arn: str) -> int | None:
        """Return how many more customer managed policies the account may have now; None where AWS does not say."""
        return await self._roles.room(role_arn)

    async def evidence(self, role: Role) -> Evidence:
        """Return a role's last accessed report, made now and read to its last page.

        Raises:
            NoEvidenceError: it failed, took too long, or is not whole.
        """
        return await self._reports.evidence(role)

    async def write(self, permit: Permit, step: Step, last: Callable[[], Awaitable[None]] = nothing_more) -> Made:
        """Send one write: the only call that changes what anybody may do. `last` is awaited right before it is sent.

        Raises:
            NotAllowedError: the permit does not cover the step; nothing was sent.
            UnknownOutcomeError: it was sent and no usable answer came: read back before anything else.
            RefineError: any other: nothing was changed.
        """
        return await write(self._clients, permit, step, last)

    async def validate(self, text: str) -> tuple[str, ...]:
        """Return what AWS calls an error in an identity policy; nothing where AWS may not or cannot be asked."""
        try:
            return await self.faults(text)
        except RefineError as error:
            self._clients.once("validate", "policies are not checked by AWS", why=error.sentence)
            return ()

    async def faults(self, text: str) -> tuple[str, ...]:
        """Return what ValidatePolicy calls an error in an identity policy.

        Raises:
            RefineError: AWS gave no answer.
        """
        return await judge.faults(self._clients, text)

    async def new_access(self, old: str, new: str) -> tuple[str, ...]:
        """Return why the new document grants what the old one does not, says CheckNoNewAccess; nothing where it passes.

        Raises:
            RefineError: AWS gave no answer.
        """
        return await judge.new_access(self._clients, old, new)

    async def simulate(self, role_arn: str, actions: Sequence[str]) -> Mapping[str, Simulated]:
        """Return what SimulatePrincipalPolicy says of each action, on any resource and without conditions.

        Raises:
            RefineError: AWS gave no answer.
        """
        return await judge.simulate(self._clients, role_arn, actions)

    async def checks(self) -> list[Check]:
        """Return what `refine doctor` says about AWS: identity, analyzers, permissions, member accounts."""
        return await doctor.checks(self._clients, self._findings)
