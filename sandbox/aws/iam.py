"""IAM: moto's, made as strict as AWS where moto is lax, and the last accessed reports that moto does not have."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from moto.core.responses import ActionResult, EmptyResult
from moto.core.serialize import url_encode
from moto.iam.models import IAMBackend, ManagedPolicy, PolicyVersion, Role
from moto.iam.responses import IamResponse

from sandbox.aws.front import AwsError, Front
from sandbox.aws.policy import Context, decide, granted, service_titles, size, tracked
from sandbox.aws.state import TRACKING_DAYS, Job, Use, ago, default_text, documents_of, now

if TYPE_CHECKING:
    from sandbox.aws.local import LocalAws

TRUST_SIZE = 2048
_ALLOWED = re.compile("[\t\n\r -\xff]*")
_PROTECTED = ("/aws-service-role/", "/aws-reserved/")
_ARN = re.compile(r"arn:aws:iam::(\d{12}|aws):(role|policy|user|group)/(.+)")


class Iam(Front, IamResponse):
    signing_name = "iam"
    reads = (*Front.reads, "Simulate")
    RESPONSE_KEY_PATH_TO_TRANSFORMER: ClassVar[dict[str, Callable[[Any], Any]]] = {
        **IamResponse.RESPONSE_KEY_PATH_TO_TRANSFORMER,
        "ListRolesResponse.Roles.Role.AssumeRolePolicyDocument": url_encode,
        "GetAccountAuthorizationDetailsResponse.RoleDetailList.RoleDetail.AssumeRolePolicyDocument": url_encode,
        "GetPolicyVersionResponse.PolicyVersion.Document": url_encode,
    }

    def __init__(self, aws: LocalAws) -> None:
        super().__init__(aws)

    @property
    def backend(self) -> IAMBackend:
        return self.iam

    @property
    def _quotas(self) -> dict[str, int]:
        return self.iam.account_summary.summary_map

    # -------------------- what moto lets pass

    def _text(self, limit: int, refusal: str, name: str = "PolicyDocument") -> str:
        """Return the request's document where it is not too long.

        Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
        """
        text: str = self._get_param(name)
        if not _ALLOWED.fullmatch(text):
            raise AwsError(
                "ValidationError",
                f"The specified value for {name[0].lower() + name[1:]} is invalid. It must contain only printable "
                "ASCII characters.",
            )
        if size(text) > limit:
            raise AwsError("LimitExceeded", refusal)
        return text

    def _open_role(self) -> Role:
        """Return the role that the request would change.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html (UnmodifiableEntity)
        """
        role = self.iam.get_role(self._get_param("RoleName"))
        if role.path.startswith(_PROTECTED):
            raise AwsError(
                "UnmodifiableEntity",
                f"Cannot perform the operation on the protected role '{role.name}' - this role is only modifiable by "
                "AWS",
            )
        return role

    def _own_policy(self) -> ManagedPolicy:
        """Return the customer managed policy that the request would change: AWS's own belong to another account."""
        arn: str = self._get_param("PolicyArn")
        if not arn.startswith(f"arn:aws:iam::{self.current_account}:"):
            raise AwsError(
                "AccessDenied",
                f"User: {self.caller.session_arn or self.caller.arn} is not authorized to perform: "
                f"iam:{self._get_action()} on resource: policy {arn}",
            )
        return self.iam.get_policy(arn)

    def _any_policy(self) -> ManagedPolicy:
        arn = self._get_param("PolicyArn")
        return self.state.aws_policy(self.iam, arn) or self.iam.get_policy(arn)

    def create_role(self) -> ActionResult:
        self._text(TRUST_SIZE, f"Cannot exceed quota for ACLSizePerRole: {TRUST_SIZE}", "AssumeRolePolicyDocument")
        return super().create_role()

    def update_assume_role_policy(self) -> ActionResult:
        self._open_role()
        self._text(TRUST_SIZE, f"Cannot exceed quota for ACLSizePerRole: {TRUST_SIZE}")
        return super().update_assume_role_policy()

    def update_role(self) -> ActionResult:
        self._open_role()
        return super().update_role()

    def delete_role(self) -> ActionResult:
        self._open_role()
        return super().delete_role()

    def put_role_permissions_boundary(self) -> ActionResult:
        self._open_role()
        return super().put_role_permissions_boundary()

    def delete_role_permissions_boundary(self) -> ActionResult:
        self._open_role()
        return super().delete_role_permissions_boundary()

    def put_role_policy(self) -> ActionResult:
        role = self._open_role()
        quota = self._quotas["RolePolicySizeQuota"]
        others = sum(size(text) for name, text in role.policies.items() if name != self._get_param("PolicyName"))
        self._text(quota - others, f"Maximum policy size of {quota} bytes exceeded for role {role.name}")
        return super().put_role_policy()

    def delete_role_policy(self) -> ActionResult:
        self._open_role()
        return super().delete_role_policy()

    def attach_role_policy(self) -> ActionResult:
        role = self._open_role()
        policy = self._any_policy()
        quota = self._quotas["AttachedPoliciesPerRoleQuota"]
        if policy.arn in role.managed_policies:
            return EmptyResult()
        if policy.path.startswith("/aws-service-role/"):
            raise AwsError("PolicyNotAttachable", f"Cannot attach a Service Role Policy to role {role.name}.")
        if len(role.managed_policies) >= quota:
            raise AwsError("LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {quota}")
        policy.attach_to(role)
        return EmptyResult()

    def detach_role_policy(self) -> ActionResult:
        self._open_role()
        return super().detach_role_policy()

    def create_policy(self) -> ActionResult:
        quota = self._quotas["PolicySizeQuota"]
        self._text(quota, f"Cannot exceed quota for PolicySize: {quota}")
        return super().create_policy()

    def create_policy_version(self) -> ActionResult:
        policy = self._own_policy()
        quota = self._quotas["PolicySizeQuota"]
        self._text(quota, f"Cannot exceed quota for PolicySize: {quota}")
        answer = super().create_policy_version()
        version: PolicyVersion = answer.result["PolicyVersion"]  # type: ignore[index]
        policy.update_date = version.create_date
        return ActionResult({"PolicyVersion": _version_head(version)})

    def delete_policy_version(self) -> ActionResult:
        self._own_policy()
        return super().delete_policy_version()

    def set_default_policy_version(self) -> ActionResult:
        policy = self._own_policy()
        if self._get_param("VersionId") == policy.default_version_id:
            return EmptyResult()
        return super().set_default_policy_version()

    def delete_policy(self) -> ActionResult:
        policy = self._own_policy()
        if policy.attachment_count or self._bounded(policy):
            raise AwsError("DeleteConflict", "Cannot delete a policy attached to entities.")
        if len(policy.versions) > 1:
            raise AwsError(
                "DeleteConflict",
                "This policy has more than one version. Before you delete a policy, you must delete the policy's "
                "versions. The default version is deleted with the policy.",
            )
        return super().delete_policy()

    def _bounded(self, policy: ManagedPolicy) -> list[Role]:
        return [r for r in self.iam.roles.values() if r.permissions_boundary_arn == policy.arn]

    def get_policy(self) -> ActionResult:
        policy = self._any_policy()
        head = {
            "PolicyName": policy.name,
            "PolicyId": policy.id,
            "Arn": policy.arn,
            "Path": policy.path,
            "DefaultVersionId": policy.default_version_id,
            "AttachmentCount": policy.attachment_count,
            "PermissionsBoundaryUsageCount": len(self._bounded(policy)),
            "IsAttachable": True,
            "CreateDate": policy.create_date,
            "UpdateDate": policy.update_date,
            "Tags": policy.get_tags(),
        }
        if policy.description:
            head["Description"] = policy.description
        return ActionResult({"Policy": head})

    def get_policy_version(self) -> ActionResult:
        version = self.iam.get_policy_version(self._any_policy().arn, self._get_param("VersionId"))
        return ActionResult({"PolicyVersion": {**_version_head(version), "Document": version.document}})

    def list_policy_versions(self) -> ActionResult:
        newest_first = sorted(self._any_policy().versions, key=lambda v: int(v.version_id[1:]), reverse=True)
        versions, marker = self._page([_version_head(v) for v in newest_first], self._get_param("PolicyArn"))
        return ActionResult({"Versions": versions, "IsTruncated": bool(marker), "Marker": marker})

    def list_role_policies(self) -> ActionResult:
        role = self.iam.get_role(self._get_param("RoleName"))
        names, marker = self._page(sorted(role.policies), role.name)
        return ActionResult({"PolicyNames": names, "IsTruncated": bool(marker), "Marker": marker})

    def list_attached_role_policies(self) -> ActionResult:
        role = self.iam.get_role(self._get_param("RoleName"))
        prefix = self._get_param("PathPrefix", "/")
        every = [
            {"PolicyName": p.name, "PolicyArn": p.arn}
            for p in sorted(role.managed_policies.values(), key=lambda p: p.name)
            if p.path.startswith(prefix)
        ]
        policies, marker = self._page(every, role.name)
        return ActionResult({"AttachedPolicies": policies, "IsTruncated": bool(marker), "Marker": marker})

    def list_entities_for_policy(self) -> ActionResult:
        policy = self._any_policy()
        usage, kind = self._get_param("PolicyUsageFilter"), self._get_param("EntityFilter")
        attached = [r for r in self.iam.roles.values() if policy.arn in r.managed_policies]
        bounded = self._bounded(policy)
        roles = {
            "PermissionsPolicy": attached,
            "PermissionsBoundary": bounded,
        }.get(usage, attached + [r for r in bounded if r not in attached])
        every = [{"RoleName": r.name, "RoleId": r.id} for r in sorted(roles, key=lambda r: r.name)]
        page, marker = self._page(every if kind in (None, "Role") else [], policy.arn)
        return ActionResult(
            {"PolicyRoles": page, "PolicyUsers": [], "PolicyGroups": [], "IsTruncated": bool(marker), "Marker": marker}
        )

    def _page(self, items: list[Any], of: str, most: int = 100) -> tuple[list[Any], str | None]:
        """Cut a page out of a list. A marker only fits the list it came from.

        Raises:
            AwsError: InvalidInput, as IAM answers a marker that is not its own.
        """
        marker, count = self._get_param("Marker"), self._get_int_param("MaxItems", most)
        if not 1 <= count <= 1000:
            raise AwsError(
                "ValidationError",
                f"1 validation error detected: Value '{count}' at 'maxItems' failed to satisfy constraint: Member must "
                "have value less than or equal to 1000",
            )
        start = 0
        if marker is not None:
            try:
                whose, _, offset = base64.urlsafe_b64decode(marker.encode()).decode().rpartition("|")
                start = int(offset)
            except ValueError:
                whose = ""
            if whose != f"{self._get_action()}|{of}":
                raise AwsError("InvalidInput", "The marker passed in the request was invalid.")
        end = start + count
        if end >= len(items):
            return items[start:end], None
        return items[start:end], base64.urlsafe_b64encode(f"{self._get_action()}|{of}|{end}".encode()).decode()

    # -------------------- the simulator

    def simulate_principal_policy(self) -> ActionResult:
        """Answer for roles, from their own policies and their boundary; there is no organization here.

        Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
        """
        arn: str = self._get_param("PolicySourceArn")
        found = _ARN.fullmatch(arn)
        if not found or found[2] not in ("role", "user"):
            raise AwsError("InvalidInput", f"Invalid Entity Arn: {arn} does not clearly define entity type and name.")
        role = next((r for r in self.iam.roles.values() if r.arn == arn), None)
        if role is None:
            raise AwsError("NoSuchEntity", f"The {found[2]} with name {found[3].rsplit('/', 1)[-1]} cannot be found.")
        boundary = self.state.aws_policy(self.iam, role.permissions_boundary_arn or "")
        limit = [json.loads(default_text(boundary))] if boundary else None
        context = Context(
            values={
                e["ContextKeyName"].lower(): ",".join(e["ContextKeyValues"])
                for e in self._get_param("ContextEntries") or ()
            }
        )
        results = [
            _simulated(documents_of(role), limit, action, resource, context)
            for action in self._get_param("ActionNames")
            for resource in self._get_param("ResourceArns") or ("*",)
        ]
        page, marker = self._page(results, arn)
        return ActionResult({"EvaluationResults": page, "IsTruncated": bool(marker), "Marker": marker})

    # -------------------- last accessed reports

    def generate_service_last_accessed_details(self) -> ActionResult:
        arn: str = self._get_param("Arn")
        granularity = self._get_param("Granularity", "SERVICE_LEVEL")
        found = _ARN.fullmatch(arn)
        if not found:
            raise AwsError("InvalidInput", f"ARN {arn} is not valid.")
        if found[1] not in (self.current_account, "aws"):
            raise AwsError(
                "AccessDenied",
                f"User: {self.caller.session_arn or self.caller.arn} is not authorized to perform: "
                f"iam:GenerateServiceLastAccessedDetails on resource: {arn}",
            )
        services = self._report(arn, found[2], actions=granularity == "ACTION_LEVEL")
        job_id, created = str(uuid.uuid4()), now()
        self.state.jobs[job_id] = Job(
            access_key=self.access_key,
            granularity=granularity,
            created=created,
            ready=created + timedelta(seconds=self.aws.report_seconds),
            services=services,
        )
        return ActionResult({"JobId": job_id})

    def get_service_last_accessed_details(self) -> ActionResult:
        job_id = self._get_param("JobId")
        job = self.state.jobs.get(job_id)
        if job is None or job.access_key != self.access_key:
            raise AwsError("NoSuchEntity", f"Job {job_id} does not exist.")
        if now() < job.ready:
            return ActionResult({"JobStatus": "IN_PROGRESS", "JobCreationDate": job.created, "IsTruncated": False})
        services, marker = self._page(job.services, job_id)
        return ActionResult(
            {
                "JobStatus": "COMPLETED",
                "JobType": job.granularity,
                "JobCreationDate": job.created,
                "JobCompletionDate": job.ready,
                "ServicesLastAccessed": services,
                "IsTruncated": bool(marker),
                "Marker": marker,
            }
        )

    def _report(self, arn: str, kind: str, *, actions: bool) -> list[dict[str, Any]]:
        """Return what AWS would report of a role or a managed policy: granted and tracked, with the world's usage.

        Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_last-accessed.html
        """
        if kind == "role":
            role = self.state.role(arn)
            if role is None:
                raise AwsError("NoSuchEntity", f"ARN {arn} does not exist.")
            users, documents = [role], documents_of(role)
        elif kind == "policy" and (policy := self.state.aws_policy(self.iam, arn)):
            users = [r for r in self.iam.roles.values() if arn in r.managed_policies]
            documents = [json.loads(default_text(policy))]
        else:
            raise AwsError("NoSuchEntity", f"ARN {arn} does not exist.")
        used: dict[str, list[tuple[Use, str]]] = {}
        for each in users:
            for action, use in self.state.used.get(each.arn, {}).items():
                if use.at >= ago(TRACKING_DAYS):
                    used.setdefault(action, []).append((use, each.arn))
        return [_service(ns, names, used, actions=actions) for ns, names in granted(documents).items()]


def _simulated(
    documents: list[dict[str, Any]],
    boundary: list[dict[str, Any]] | None,
    action: str,
    resource: str,
    context: Context,
) -> dict[str, Any]:
    """Return one result; a boundary has to allow too, and what it denies is told apart."""
    if not re.fullmatch(r"[\w-]+:\w+", action):
        raise AwsError("InvalidInput", f"Invalid action name: {action}")
    decision, missing = decide(documents, action.lower(), resource, context)
    result: dict[str, Any] = {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "MatchedStatements": [],
        "MissingContextValues": missing,
    }
    if boundary is not None:
        bound, _ = decide(boundary, action.lower(), resource, context)
        result["PermissionsBoundaryDecisionDetail"] = {"AllowedByPermissionsBoundary": bound == "allowed"}
        if decision == "allowed":
            decision = bound
    return {**result, "EvalDecision": decision}


def _service(
    namespace: str, names: list[str], used: dict[str, list[tuple[Use, str]]], *, actions: bool
) -> dict[str, Any]:
    """Return one service of a report. An action that is not tracked counts for the service and is not listed."""
    mine = [found for action, every in used.items() if action.split(":")[0] == namespace for found in every]
    entry: dict[str, Any] = {
        "ServiceName": service_titles()[namespace],
        "ServiceNamespace": namespace,
        "TotalAuthenticatedEntities": len({who for _, who in mine}),
    }
    if mine:
        use, who = _last(mine)
        entry |= {"LastAuthenticated": use.at, "LastAuthenticatedEntity": who, "LastAuthenticatedRegion": use.region}
    listed = [name for name in names if tracked(namespace, name)] if actions else []
    if listed:
        entry["TrackedActionsLastAccessed"] = [_action(name, used.get(f"{namespace}:{name}", [])) for name in listed]
    return entry


def _action(name: str, uses: list[tuple[Use, str]]) -> dict[str, Any]:
    if not uses:
        return {"ActionName": name}
    use, who = _last(uses)
    return {
        "ActionName": name,
        "LastAccessedEntity": who,
        "LastAccessedTime": use.at,
        "LastAccessedRegion": use.region,
    }


def _last(uses: list[tuple[Use, str]]) -> tuple[Use, str]:
    return max(uses, key=lambda found: found[0].at)


def _version_head(version: PolicyVersion) -> dict[str, Any]:
    return {
        "VersionId": version.version_id,
        "IsDefaultVersion": version.is_default,
        "CreateDate": version.create_date,
    }
