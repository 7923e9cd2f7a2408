"""Access Analyzer: analyzers, findings, and the two checks of policies.

Source: https://docs.aws.amazon.com/access-analyzer/latest/APIReference/
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult, EmptyResult

from sandbox.aws.findings import ANALYZERS, AnalyzerFacts, Seen, refresh, status
from sandbox.aws.front import AwsError, Front
from sandbox.aws.lint import new_access, validate
from sandbox.aws.state import HUB, now

if TYPE_CHECKING:
    from sandbox.aws.local import LocalAws

_VALUES = 20  # https://docs.aws.amazon.com/IAM/latest/UserGuide/access-analyzer-quotas.html
_SORTS = {"createdAt", "updatedAt", "analyzedAt", "status", "resource", "resourceType", "resourceOwnerAccount"}


class InvalidError(AwsError):
    """ValidationException, with the reason that its shape asks for."""

    code = "ValidationException"
    reason = "fieldValidationFailed"


class MissingError(AwsError):
    """ResourceNotFoundException, with what was not found."""

    code = "ResourceNotFoundException"

    def __init__(self, what: str, kind: str) -> None:
        super().__init__(f"{kind} {what} was not found.")
        self.resourceId, self.resourceType = what, kind


class Analyzer(Front):
    signing_name = "access-analyzer"
    denied = "AccessDeniedException"
    throttled = ("ThrottlingException", "Rate exceeded")
    failed = ("InternalServerException", "An internal server error occurred.")

    def __init__(self, aws: LocalAws) -> None:
        super().__init__(aws, service_name="accessanalyzer")

    # -------------------- analyzers

    def _mine(self) -> list[AnalyzerFacts]:
        return [a for a in ANALYZERS if a.region == self.region and self.current_account == HUB]

    def _analyzer(self) -> AnalyzerFacts:
        arn = self._get_param("analyzerArn")
        found = next((a for a in self._mine() if a.arn == arn), None)
        if found is None:
            raise MissingError(arn, "Analyzer")
        return found

    def list_analyzers(self) -> ActionResult:
        kind = self._get_param("type")
        analyzers = [_analyzer_head(a) for a in self._mine() if kind in (None, a.type)]
        page, token = self._page(analyzers)
        return ActionResult(_with_token({"analyzers": page}, token))

    def get_analyzer(self) -> ActionResult:
        name = self._get_param("analyzerName")
        found = next((a for a in self._mine() if a.name == name), None)
        if found is None:
            raise MissingError(name, "Analyzer")
        return ActionResult({"analyzer": _analyzer_head(found)})

    # -------------------- findings

    def _findings(self, analyzer: AnalyzerFacts) -> dict[str, Seen]:
        return refresh(self.state, analyzer, self.lag)

    def list_findings_v2(self) -> ActionResult:
        analyzer = self._analyzer()
        every = [(_finding_head(i, f), f.detail) for i, f in self._findings(analyzer).items()]
        criteria = self._get_param("filter") or {}
        kept = [head for head, detail in every if all(_meets(head, detail, k, c) for k, c in criteria.items())]
        sort = self._get_param("sort") or {}
        attribute = sort.get("attributeName") or "updatedAt"
        if attribute not in _SORTS:
            raise InvalidError(f"Invalid sort attribute: {attribute}")
        kept.sort(key=lambda h: (str(h[attribute]), h["id"]), reverse=sort.get("orderBy", "DESC") == "DESC")
        page, token = self._page(kept)
        return ActionResult(_with_token({"findings": page}, token))

    def get_finding_v2(self) -> ActionResult:
        analyzer = self._analyzer()
        finding_id = self._get_param("id")
        finding = self._findings(analyzer).get(finding_id)
        if finding is None:
            raise MissingError(finding_id, "Finding")
        keys = ("action", "condition", "isPublic", "principal")
        detail = {"externalAccessDetails": {k: finding.detail[k] for k in keys}}
        return ActionResult({**_finding_head(finding_id, finding), "findingDetails": [detail]})

    def update_findings(self) -> ActionResult:
        analyzer = self._analyzer()
        wanted, ids, arn = (self._get_param(p) for p in ("status", "ids", "resourceArn"))
        if bool(ids) == bool(arn):
            raise InvalidError("Give either ids or resourceArn.")
        if wanted not in ("ACTIVE", "ARCHIVED"):
            raise InvalidError(f"Invalid status: {wanted}")
        findings = self._findings(analyzer)
        for finding_id in ids or ():
            if finding_id not in findings:
                raise MissingError(finding_id, "Finding")
        for finding_id, finding in findings.items():
            if (finding_id in ids if ids else finding.detail["resource"] == arn) and not finding.resolved:
                finding.archived, finding.updated = wanted == "ARCHIVED", now()
        return EmptyResult()

    def start_resource_scan(self) -> ActionResult:
        analyzer = self._analyzer()
        if self.state.role(self._get_param("resourceArn")) is None:
            raise MissingError(self._get_param("resourceArn"), "Resource")
        self._findings(analyzer)
        return EmptyResult()

    # -------------------- checks of policies

    def validate_policy(self) -> ActionResult:
        page, token = self._page(validate(self._get_param("policyDocument"), self._get_param("policyType")))
        return ActionResult(_with_token({"findings": page}, token))

    def check_no_new_access(self) -> ActionResult:
        try:
            reasons = new_access(self._get_param("newPolicyDocument"), self._get_param("existingPolicyDocument"))
        except ValueError as error:
            raise AwsError("InvalidParameterException", str(error)) from None
        if not reasons:
            message = "The modified permissions do not grant new access compared to your existing policy."
            return ActionResult({"result": "PASS", "message": message, "reasons": []})
        message = "The modified permissions grant new access compared to your existing policy."
        return ActionResult({"result": "FAIL", "message": message, "reasons": reasons})

    def _page(self, items: list[Any]) -> tuple[list[Any], str | None]:
        count = self._get_int_param("maxResults", 100)
        if not 1 <= count <= 1000:
            raise InvalidError("maxResults is out of range.")
        start, token = 0, self._get_param("nextToken")
        if token:
            try:
                whose, _, offset = base64.urlsafe_b64decode(token.encode()).decode().partition("|")
                start = int(offset)
            except ValueError:
                whose = ""
            if whose != self._get_action():
                raise InvalidError("Invalid nextToken.")
        end = start + count
        if end >= len(items):
            return items[start:end], None
        return items[start:end], base64.urlsafe_b64encode(f"{self._get_action()}|{end}".encode()).decode()


def _with_token(answer: dict[str, Any], token: str | None) -> dict[str, Any]:
    return {**answer, "nextToken": token} if token else answer


def _analyzer_head(analyzer: AnalyzerFacts) -> dict[str, Any]:
    return {
        "arn": analyzer.arn,
        "name": analyzer.name,
        "type": analyzer.type,
        "createdAt": analyzer.created,
        "status": "ACTIVE",
        "tags": {},
    }


def _finding_head(finding_id: str, finding: Seen) -> dict[str, Any]:
    return {
        "id": finding_id,
        "resource": finding.detail["resource"],
        "resourceType": "AWS::IAM::Role",
        "resourceOwnerAccount": finding.detail["owner"],
        "findingType": "ExternalAccess",
        "status": status(finding),
        "analyzedAt": now(),
        "createdAt": finding.created,
        "updatedAt": finding.updated,
    }


def _meets(head: dict[str, Any], detail: dict[str, Any], key: str, criterion: dict[str, Any]) -> bool:
    """Whether a finding meets one criterion of a filter.

    Raises:
        InvalidError: as AWS answers an unknown key, or more than 20 values.
    """
    if any(len(v) > _VALUES for v in criterion.values() if isinstance(v, list)):
        raise InvalidError(f"A filter criterion may have at most {_VALUES} values.")
    if key in ("id", "resource", "resourceType", "resourceOwnerAccount", "findingType", "status"):
        value: str | None = head[key]
    elif key == "isPublic":
        value = str(detail["isPublic"]).lower()
    elif key == "error":
        value = None
    elif key.startswith("principal."):
        value = detail["principal"].get(key.removeprefix("principal."))
    elif key.startswith("condition."):
        value = detail["condition"].get(key.removeprefix("condition."))
    else:
        raise InvalidError(f"Invalid filter key: {key}")
    if "exists" in criterion and criterion["exists"] != (value is not None):
        return False
    if criterion.get("eq") and value not in criterion["eq"]:
        return False
    if criterion.get("neq") and value in criterion["neq"]:
        return False
    return not criterion.get("contains") or any(part in (value or "") for part in criterion["contains"])
