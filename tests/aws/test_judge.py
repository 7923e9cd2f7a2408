"""AWS's own word: an answer is an answer, and everything else is an error, never a silent yes."""

from __future__ import annotations

import pytest

from bot.errors import DeniedError, RefineError, RefusedError, ThrottledError, UnavailableError
from sandbox.aws import MEMBER, LocalAws
from tests.aws.between import Between
from tests.aws.conftest import Gateway
from tests.aws.world import allow, iam, make_role


async def test_no_new_access_passes_or_says_why_not(aws: LocalAws, gateway: Gateway) -> None:
    gate = await gateway()
    assert await gate.new_access(allow("s3:*"), allow("s3:GetObject")) == ()
    (reason,) = await gate.new_access(allow("s3:GetObject"), allow("s3:*"))
    assert reason == "New access in the statement with index: 0."


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"result": "FAIL", "message": "No.", "reasons": []}, ("No.",)),
        ({"result": "FAIL"}, ("AWS gives no reason.",)),
        ({"result": "FAIL", "message": "No.", "reasons": [{"statementIndex": 1}]}, ("No.",)),
        ({"result": "PASS", "message": "Yes."}, ()),
    ],
)
async def test_a_fail_has_a_reason_at_all_times(
    aws: LocalAws, between: Between, gateway: Gateway, answer: dict[str, object], wanted: tuple[str, ...]
) -> None:
    between.json("CheckNoNewAccess", answer)
    assert await (await gateway()).new_access(allow("s3:*"), allow("s3:*")) == wanted


async def test_an_answer_that_is_none_is_an_error(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    between.json("CheckNoNewAccess", {"result": "PERHAPS"})
    between.answer("SimulatePrincipalPolicy", "<IsTruncated>false</IsTruncated>")
    gate = await gateway()
    with pytest.raises(UnavailableError, match="neither PASS nor FAIL"):
        await gate.new_access(allow("s3:*"), allow("s3:*"))
    with pytest.raises(UnavailableError, match="said nothing of s3:GetObject"):
        await gate.simulate(make_role(aws), ["s3:GetObject"])


@pytest.mark.parametrize("operation", ["CheckNoNewAccess", "ValidatePolicy", "SimulatePrincipalPolicy"])
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDeniedException", DeniedError),
        (429, "ThrottlingException", ThrottledError),
        (400, "InvalidParameterException", RefusedError),
        (400, "ValidationException", RefusedError),  # too large, or not an operation of this Region
        (422, "UnprocessableEntityException", RefusedError),
        (500, "InternalServerException", UnavailableError),
    ],
)
async def test_no_answer_is_told_from_a_good_one(
    aws: LocalAws, between: Between, gateway: Gateway, operation: str, status: int, code: str, error: type[RefineError]
) -> None:
    between.refuse(operation, status, code)
    gate = await gateway()
    asked = {
        "CheckNoNewAccess": lambda: gate.new_access(allow("s3:*"), allow("s3:*")),
        "ValidatePolicy": lambda: gate.faults(allow("s3:*")),
        "SimulatePrincipalPolicy": lambda: gate.simulate(make_role(aws), ["s3:GetObject"]),
    }
    with pytest.raises(error):
        await asked[operation]()


async def test_many_actions_are_simulated_in_batches_and_to_the_last_page(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    role = make_role(aws, "TheirRole", account=MEMBER)
    text = allow("s3:*", "ec2:Describe*")
    iam(aws, MEMBER).put_role_policy(RoleName="TheirRole", PolicyName="p", PolicyDocument=text)
    actions = [f"s3:Action{n}" for n in range(140)] + [f"ec2:Action{n}" for n in range(110)]
    between.change("SimulatePrincipalPolicy", lambda form: {**form, "MaxItems": "40"})
    found = await (await gateway()).simulate(role, actions)
    assert list(found) == actions
    assert [a for a in actions if found[a].allowed] == actions[:140]
    asked = [s.form for s in between.seen if s.operation == "SimulatePrincipalPolicy"]
    firsts = [f for f in asked if "Marker" not in f]
    assert [sum(k.startswith("ActionNames.") for k in f) for f in firsts] == [100, 100, 50]
    assert len(asked) == 3 + 3 + 2


async def test_what_denies_beyond_the_roles_own_policies_is_named(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    def result(action: str, decision: str, detail: str = "") -> str:
        return (
            f"<member><EvalActionName>{action}</EvalActionName><EvalDecision>{decision}</EvalDecision>{detail}</member>"
        )

    bound = "<PermissionsBoundaryDecisionDetail><AllowedByPermissionsBoundary>{}</AllowedByPermissionsBoundary>"
    bound += "</PermissionsBoundaryDecisionDetail>"
    org = (
        "<OrganizationsDecisionDetail><AllowedByOrganizations>{}</AllowedByOrganizations></OrganizationsDecisionDetail>"
    )
    results = (
        result("S3:getobject", "allowed", bound.format("true") + org.format("true")),
        result("s3:PutObject", "implicitDeny", bound.format("false") + org.format("true")),
        result("s3:ListBucket", "explicitDeny", bound.format("true") + org.format("false")),
        result("s3:DeleteObject", "implicitDeny", bound.format("true") + org.format("true")),
        result("s3:GetBucketAcl", "explicitDeny"),
    )
    between.answer("SimulatePrincipalPolicy", f"<EvaluationResults>{''.join(results)}</EvaluationResults>")
    actions = ["s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteObject", "s3:GetBucketAcl"]
    found = await (await gateway()).simulate(make_role(aws), actions)
    assert {a: (s.allowed, s.beyond) for a, s in found.items()} == {
        "s3:GetObject": (True, ""),
        "s3:PutObject": (False, "permissions boundary"),
        "s3:ListBucket": (False, "organization"),
        "s3:DeleteObject": (False, ""),
        "s3:GetBucketAcl": (False, ""),
    }
