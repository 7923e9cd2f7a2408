"""A role is read whole, and each document to the byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from bot.errors import DeniedError, NotFoundError, ThrottledError, UnavailableError
from bot.model import PolicyKind
from sandbox.aws import HUB, MEMBER, LocalAws
from sandbox.aws.state import Stack
from tests.aws.between import Between
from tests.aws.conftest import Gateway
from tests.aws.world import OUTSIDER, allow, attach, iam, make_role, trust

# What botocore's decoding would lose: white space, spelling, escapes, characters that URLs escape, and of two equal keys the first.
ODD = (
    '{ "Version":"2012-10-17",\n\t"Statement" : { "Sid":"A","Sid":"B", "Effect":"Allow","Action":"S3:get*",\r\n'
    '"Resource":"arn:aws:s3:::a+b%20c/${aws:username}/*?&=#~", "Condition":{"NumericEquals":{"s3:max-keys":"1\\u0030"}} }}\n'
)


async def test_a_whole_role_is_read_byte_for_byte(aws: LocalAws, gateway: Gateway) -> None:
    text = trust({"AWS": f"arn:aws:iam::{OUTSIDER}:root"}).replace(", ", " ,\n  ")
    boundary = iam(aws).create_policy(PolicyName="Bound", PolicyDocument=ODD)["Policy"]["Arn"]
    arn = make_role(
        aws,
        Path="/team/a/",
        Description="What it is for",
        AssumeRolePolicyDocument=text,
        PermissionsBoundary=boundary,
        Tags=[{"Key": "team", "Value": "b"}, {"Key": "app", "Value": "a"}],
    )
    policy = attach(
        aws, "ApplicationRole", "Odd", ODD, Path="/p/", Description="why", Tags=[{"Key": "k", "Value": "v"}]
    )
    iam(aws).attach_role_policy(RoleName="ApplicationRole", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    iam(aws).put_role_policy(RoleName="ApplicationRole", PolicyName="z", PolicyDocument=ODD)
    iam(aws).put_role_policy(RoleName="ApplicationRole", PolicyName="a", PolicyDocument=allow("sqs:*"))
    before = datetime.now(UTC)

    role = await (await gateway()).role(arn)

    head = iam(aws).get_role(RoleName="ApplicationRole")["Role"]
    assert (role.arn, role.name, role.account, role.path) == (arn, "ApplicationRole", HUB, "/team/a/")
    assert (role.role_id, role.created_at, role.description) == (head["RoleId"], head["CreateDate"], "What it is for")
    assert role.trust_text == text
    assert (role.boundary_arn, role.boundary_text) == (boundary, ODD)
    assert role.tags == (("app", "a"), ("team", "b"))
    assert before <= role.read_at <= datetime.now(UTC)
    assert (role.stack, role.last_used_at) == ("", None)
    assert [(p.name, p.kind) for p in role.policies] == [
        ("Odd", PolicyKind.CUSTOMER),
        ("ReadOnlyAccess", PolicyKind.AWS),
        ("a", PolicyKind.INLINE),
        ("z", PolicyKind.INLINE),
    ]
    odd, managed, a, z = role.policies
    assert (odd.text, z.text, a.text) == (ODD, ODD, allow("sqs:*"))
    assert (odd.arn, odd.path, odd.description, odd.tags) == (policy, "/p/", "why", (("k", "v"),))
    assert (odd.attachments, odd.boundary_uses, odd.default_version, odd.versions) == (1, 0, "v1", ("v1",))
    assert odd.version_created_at is not None
    shot = aws.snapshot(HUB, "ApplicationRole")
    assert managed.text == shot["attached"][managed.arn]["document_text"]
    assert len(managed.text) > 6144


async def test_every_page_of_policies_is_read(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    names = sorted(f"p{n:03}" for n in range(103))
    small = '{"Statement":{"Effect":"Allow","Action":"a:b","Resource":"*"}}'
    aws.state.iam(HUB).get_role("ApplicationRole").policies = dict.fromkeys(names, small)
    role = await (await gateway()).role(arn)
    assert [p.name for p in role.policies] == names
    assert len(aws.calls("iam", "ListRolePolicies")) == 2


async def test_versions_come_oldest_first_whatever_their_number(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    policy = attach(aws, "ApplicationRole", "P", allow("s3:*"))
    for n in range(2, 12):
        iam(aws).create_policy_version(PolicyArn=policy, PolicyDocument=allow(f"s3:Get{n}*"), SetAsDefault=n == 9)
        if 4 < n < 11:
            iam(aws).delete_policy_version(PolicyArn=policy, VersionId=f"v{n - 3}")
    found = (await (await gateway()).role(arn)).policies[0]
    assert found.versions == ("v1", "v8", "v9", "v10", "v11")
    assert (found.default_version, found.text) == ("v9", allow("s3:Get9*"))


async def test_the_document_that_has_to_go_for_a_new_version_is_read_before(aws: LocalAws, gateway: Gateway) -> None:
    """Only where there is no room; never the one in force; and the quota that tells is asked for once."""
    arn = make_role(aws)
    full = attach(aws, "ApplicationRole", "Full", ODD)
    for n in range(2, 6):
        iam(aws).create_policy_version(PolicyArn=full, PolicyDocument=allow(f"s3:Get{n}*"), SetAsDefault=False)
    room = attach(aws, "ApplicationRole", "Room", ODD)
    for n in range(2, 5):
        iam(aws).create_policy_version(PolicyArn=room, PolicyDocument=allow(f"s3:Get{n}*"), SetAsDefault=True)
    reader = await gateway()
    found = {p.name: p for p in (await reader.role(arn)).policies}
    assert found["Full"].versions == ("v1", "v2", "v3", "v4", "v5")
    assert (found["Full"].default_version, found["Full"].oldest_text) == ("v1", allow("s3:Get2*"))
    assert found["Room"].oldest_text == ""
    iam(aws).set_default_policy_version(PolicyArn=full, VersionId="v4")
    again = await reader.policy(full, role_arn=arn)
    assert again is not None
    assert again.oldest_text == ODD
    assert len(aws.calls("iam", "GetAccountSummary")) == 1


@pytest.mark.parametrize(
    "asked", ["ApplicationRole", "team/ApplicationRole", f"arn:aws:iam::{HUB}:role/team/ApplicationRole"]
)
async def test_a_role_is_found_by_name_path_and_arn(aws: LocalAws, gateway: Gateway, asked: str) -> None:
    arn = make_role(aws, Path="/team/")
    assert (await (await gateway()).role(asked)).arn == arn


@pytest.mark.parametrize(
    "asked",
    [
        "Nobody",
        f"arn:aws:iam::{HUB}:role/Nobody",
        f"arn:aws:iam::{HUB}:role/elsewhere/ApplicationRole",
        f"arn:aws:iam::{HUB}:user/ApplicationRole",
        "arn:aws:iam::12:role/ApplicationRole",
        "no such name <script>",
        "",
    ],
)
async def test_what_is_no_role_is_not_found(aws: LocalAws, gateway: Gateway, asked: str) -> None:
    make_role(aws)
    with pytest.raises(NotFoundError) as caught:
        await (await gateway()).role(asked)
    assert caught.value.next_step


async def test_a_member_accounts_role_is_read_through_the_member_role(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    arn = make_role(aws, "TheirRole", account=MEMBER)
    attach(aws, "TheirRole", "P", ODD, account=MEMBER)
    reader = await gateway()
    role = await reader.role(arn)
    assert (await reader.role("TheirRole", MEMBER)).live_digest() == role.live_digest()
    assert (role.account, role.policies[0].text) == (MEMBER, ODD)
    assumed = [s.form for s in between.seen if s.operation == "AssumeRole"]
    assert len(assumed) == 1, "one session serves every call"
    assert assumed[0]["RoleArn"] == f"arn:aws:iam::{MEMBER}:role/RefineMember"
    assert assumed[0]["RoleSessionName"] == "refine-read"
    limit = json.loads(assumed[0]["Policy"])["Statement"]
    assert "iam:GetRole" in limit[0]["Action"]
    assert not [
        a
        for a in limit[0]["Action"]
        if not a.split(":")[1].startswith(("Get", "List", "Generate", "Simulate", "Describe"))
    ]


async def test_a_wrong_external_id_is_refused_without_being_told(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws, "TheirRole", account=MEMBER)
    with pytest.raises(DeniedError) as caught:
        await (await gateway(external_id="guessed-it")).role(arn)
    assert "RefineMember" in caught.value.sentence
    assert MEMBER in caught.value.sentence
    assert "guessed" not in caught.value.say()


async def test_expired_keys_of_the_member_role_are_renewed(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    arn = make_role(aws, "TheirRole", account=MEMBER)
    between.change("AssumeRole", lambda form: {**form, "DurationSeconds": "900"}, times=1)
    reader = await gateway()
    await reader.role(arn)  # botocore renews keys a quarter of an hour before their end: these, at once
    assert [s.form["DurationSeconds"] for s in between.seen if s.operation == "AssumeRole"] == ["3600", "3600"]
    first, second = dict.fromkeys(s.key for s in between.seen if s.service == "iam")
    assert first != second


async def test_a_read_that_sees_an_older_state_in_part_is_taken_anew(aws: LocalAws, gateway: Gateway) -> None:
    """IAM is eventually consistent: the policy's head may name a version that another server does not have yet."""
    arn = make_role(aws)
    policy = attach(aws, "ApplicationRole", "P", allow("s3:*"))
    aws.fault(operation="GetPolicyVersion", kind="lag", seconds=30, times=2)
    iam(aws).create_policy_version(PolicyArn=policy, PolicyDocument=allow("s3:Get*"), SetAsDefault=True)
    found = (await (await gateway()).role(arn)).policies[0]
    assert (found.default_version, found.text) == ("v2", allow("s3:Get*"))
    assert len(aws.calls("iam", "GetPolicyVersion")) == 3


async def test_an_older_head_with_newer_versions_is_not_taken_for_the_truth(aws: LocalAws, gateway: Gateway) -> None:
    """Both versions are there, and the head that names the old one as the default is late."""
    arn = make_role(aws)
    policy = attach(aws, "ApplicationRole", "P", allow("s3:*"))
    iam(aws).create_policy_version(PolicyArn=policy, PolicyDocument=allow("s3:Get*"), SetAsDefault=False)
    aws.fault(operation="GetPolicy", kind="lag", seconds=30, times=1)
    iam(aws).set_default_policy_version(PolicyArn=policy, VersionId="v2")
    found = (await (await gateway()).role(arn)).policies[0]
    assert (found.default_version, found.text) == ("v2", allow("s3:Get*"))
    assert len(aws.calls("iam", "GetPolicy")) == 2


async def test_a_role_that_never_settles_is_not_taken_for_gone(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    policy = attach(aws, "ApplicationRole", "P", allow("s3:*"))
    aws.fault(operation="GetPolicyVersion", kind="lag", seconds=60)
    iam(aws).create_policy_version(PolicyArn=policy, PolicyDocument=allow("s3:Get*"), SetAsDefault=True)
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    with pytest.raises(UnavailableError):
        await (await gateway(sleep=sleep)).role(arn)
    assert len(pauses) >= 3


async def test_throttled_reads_are_repeated_and_then_given_up(
    aws: LocalAws, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn = make_role(aws)
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    aws.fault(operation="GetRole", kind="throttle", times=2)
    assert (await (await gateway()).role(arn)).arn == arn
    assert len(aws.calls("iam", "GetRole")) == 3
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    aws.fault(operation="GetRole", kind="throttle")
    with pytest.raises(ThrottledError):
        await (await gateway()).role(arn)
    assert len(aws.calls("iam", "GetRole")) == 5


async def test_server_errors_and_lost_answers_of_reads_are_repeated(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    aws.fault(operation="GetRole", kind="error_before", times=1)
    aws.fault(operation="ListRolePolicies", kind="lost_reply", times=1)
    assert (await (await gateway()).role(arn)).arn == arn
    aws.fault(operation="GetRole", kind="error_before")
    with pytest.raises(UnavailableError):
        await (await gateway()).role(arn)


async def test_a_denied_read_names_the_action_and_the_account(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    arn = make_role(aws)
    between.refuse("ListRolePolicies", 403, "AccessDenied", "User arn:aws:iam::1:user/x is not authorized")
    with pytest.raises(DeniedError) as caught:
        await (await gateway()).role(arn)
    assert "iam:ListRolePolicies" in caught.value.sentence
    assert HUB in caught.value.sentence
    assert caught.value.next_step


async def test_the_accounts_own_quotas_count_and_are_asked_for_once(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    told = iam(aws).get_account_summary()["SummaryMap"]
    aws._calls.clear()
    reader = await gateway()
    for _ in range(2):
        quotas = (await reader.role(arn)).quotas
    assert quotas.managed_policy_size == told["PolicySizeQuota"]
    assert quotas.role_policies_size == told["RolePolicySizeQuota"]
    assert quotas.attached_policies == told["AttachedPoliciesPerRoleQuota"]
    assert quotas.policy_versions == told["VersionsPerPolicyQuota"]
    assert len(aws.calls("iam", "GetAccountSummary")) == 1


async def test_denied_quotas_are_taken_for_iams_smallest(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    arn = make_role(aws)
    between.refuse("GetAccountSummary", 403, "AccessDenied")
    quotas = (await (await gateway()).role(arn)).quotas
    assert (quotas.managed_policy_size, quotas.attached_policies) == (6144, 10)


async def test_the_stack_that_owns_a_role_is_found_in_any_region(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    make_role(aws, "Free")
    aws.state.stacks[arn] = Stack(name="payments", region="eu-west-1", logical_id="Role", at=datetime.now(UTC))
    reader = await gateway()
    assert (await reader.role(arn)).stack == "payments"
    assert (await reader.role("Free")).stack == ""


async def test_where_cloudformation_may_not_be_asked_the_owner_is_unknown_and_the_log_says_so_once(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    arn = make_role(aws)
    reader = await gateway(regions=("us-east-1",))
    with capture_logs() as told:
        await reader.role(arn)
    assert told == [], "that no stack owns a role is no news"
    between.refuse("DescribeStackResources", 403, "AccessDenied")
    with capture_logs() as told:
        for _ in range(2):
            assert (await reader.role(arn)).stack == ""
    assert [entry["event"] for entry in told] == ["stack owner unknown"]
    assert "cloudformation:DescribeStackResources" in told[0]["why"]


async def test_a_role_made_from_a_template_carries_its_mark(aws: LocalAws, between: Between, gateway: Gateway) -> None:
    """The local IAM has no role templates: the answer is given in AWS's words."""
    arn = make_role(aws)
    head = "<Path>/</Path><RoleName>ApplicationRole</RoleName><RoleId>AROAX</RoleId>"
    head += f"<Arn>{arn}</Arn><CreateDate>2026-01-31T00:00:00Z</CreateDate>"
    head += "<AssumeRolePolicyDocument>%7B%7D</AssumeRolePolicyDocument>"
    head += "<SourceRoleTemplate><TemplateArn>arn:aws:iam::aws:role-template/x</TemplateArn></SourceRoleTemplate>"
    head += "<RoleLastUsed><LastUsedDate>2026-01-30T00:00:00Z</LastUsedDate><Region>eu-west-1</Region></RoleLastUsed>"
    between.answer("GetRole", f"<Role>{head}</Role>")
    role = await (await gateway()).role(arn)
    assert ("SourceRoleTemplate", "arn:aws:iam::aws:role-template/x") in role.tags
    assert (role.last_used_at, role.last_used_region) == (datetime(2026, 1, 30, tzinfo=UTC), "eu-west-1")
    assert role.trust_text == "{}"


async def test_a_policy_is_read_by_its_arn(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws)
    theirs = make_role(aws, "TheirRole", account=MEMBER)
    policy = attach(aws, "ApplicationRole", "P", ODD)
    attach(aws, "TheirRole", "P", allow("sqs:*"), account=MEMBER)
    reader = await gateway()
    found = await reader.policy(policy, role_arn=arn)
    assert found is not None
    assert (found.text, found.kind) == (ODD, PolicyKind.CUSTOMER)
    other = await reader.policy(f"arn:aws:iam::{MEMBER}:policy/P", role_arn=theirs)
    assert other is not None
    assert other.text == allow("sqs:*")
    ours = await reader.policy("arn:aws:iam::aws:policy/ReadOnlyAccess", role_arn=theirs)
    assert ours is not None
    assert ours.kind is PolicyKind.AWS
    assert await reader.policy(f"arn:aws:iam::{HUB}:policy/refine/Gone", role_arn=arn) is None


async def test_every_role_of_the_account_is_listed(aws: LocalAws, gateway: Gateway) -> None:
    made = {make_role(aws, f"R{n}") for n in range(120)}
    roles = await (await gateway()).roles()
    assert {r.arn for r in roles} == made
    assert {r.name for r in roles} == {f"R{n}" for n in range(120)}


async def test_the_bot_knows_itself(aws: LocalAws, gateway: Gateway) -> None:
    reader = await gateway()
    assert await reader.whoami() == (HUB, f"arn:aws:iam::{HUB}:user/refine")
    await reader.whoami()
    assert len(aws.calls("sts", "GetCallerIdentity")) == 1


async def test_without_credentials_the_error_says_what_to_do(
    aws: LocalAws, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UnavailableError, match="no AWS credentials") as caught:
        await (await gateway()).whoami()
    assert caught.value.next_step


async def test_where_nothing_listens_it_says_so(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(UnavailableError, match="could not be reached"):
        await (await gateway()).whoami()
