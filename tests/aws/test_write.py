"""The only writing call: never without a permit, never twice by itself, and honest about what it does not know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bot.errors import (
    DeniedError,
    NotAllowedError,
    NotFoundError,
    RefusedError,
    ThrottledError,
    UnavailableError,
    UnknownOutcomeError,
)
from bot.model import Step, StepKind
from sandbox.aws import HUB, MEMBER, LocalAws
from tests.aws.between import Between
from tests.aws.conftest import Gateway
from tests.aws.test_roles import ODD
from tests.aws.world import EXTERNAL_ID, allow, attach, iam, make_role, permit, step

OLD, NEW = allow("dynamodb:*"), ODD
WRITES = {
    "CreatePolicy",
    "CreatePolicyVersion",
    "DeletePolicyVersion",
    "SetDefaultPolicyVersion",
    "AttachRolePolicy",
    "DetachRolePolicy",
    "PutRolePolicy",
    "DeleteRolePolicy",
    "DeletePolicy",
}
ACCOUNTS = [HUB, MEMBER]


def writes(aws: LocalAws) -> list[str]:
    return [c["operation"] for c in aws.calls("iam") if c["operation"] in WRITES]


class Scene:
    """A role with a managed policy of two versions, an inline policy, and a copy that Refine made and attached."""

    def __init__(self, aws: LocalAws, account: str = HUB) -> None:
        self.aws, self.account = aws, account
        self.role = make_role(aws, account=account)
        self.managed = attach(aws, "ApplicationRole", "DynamoDBAccess", OLD, account=account)
        iam(aws, account).create_policy_version(PolicyArn=self.managed, PolicyDocument=NEW, SetAsDefault=False)
        iam(aws, account).put_role_policy(RoleName="ApplicationRole", PolicyName="inline", PolicyDocument=OLD)
        self.copy = f"arn:aws:iam::{account}:policy/refine/Copy"
        self.aws._calls.clear()

    def make_copy(self, *, attached: bool) -> None:
        made = iam(self.aws, self.account).create_policy(PolicyName="Copy", Path="/refine/", PolicyDocument=NEW)
        if attached:
            iam(self.aws, self.account).attach_role_policy(RoleName="ApplicationRole", PolicyArn=made["Policy"]["Arn"])
        self.aws._calls.clear()

    def shot(self) -> dict:
        return self.aws.snapshot(self.account, "ApplicationRole")

    def policy(self, arn: str) -> SimpleNamespace | None:
        policies = self.aws.state.iam(self.account).managed_policies
        return policies.get(arn)


@pytest.fixture(params=ACCOUNTS, ids=["own account", "member account"])
def scene(aws: LocalAws, request: pytest.FixtureRequest) -> Scene:
    return Scene(aws, request.param)


@pytest.fixture
def own(aws: LocalAws) -> Scene:
    return Scene(aws)


# -------------------- each kind of step, in the bot's own account and in a member's


async def test_create_policy(scene: Scene, gateway: Gateway) -> None:
    one = step(StepKind.CREATE_POLICY, "Copy", policy_arn=scene.copy, text=NEW)
    made = await (await gateway()).write(permit(scene.role, one), one)
    assert made.version == "v1"
    policy = scene.policy(scene.copy)
    assert policy is not None
    assert policy.versions[0].document == NEW
    assert (policy.path, policy.attachment_count) == ("/refine/", 0)
    assert "ApplicationRole" in policy.description
    assert "c1-apply" in policy.description
    assert writes(scene.aws) == ["CreatePolicy"]


async def test_create_version(scene: Scene, gateway: Gateway) -> None:
    one = step(StepKind.CREATE_VERSION, policy_arn=scene.managed, text=NEW, before=OLD)
    made = await (await gateway()).write(permit(scene.role, one), one)
    policy = scene.shot()["attached"][scene.managed]
    assert (made.version, policy["default_version"], policy["document_text"]) == ("v3", "v3", NEW)
    assert policy["versions"]["v1"] == OLD
    assert writes(scene.aws) == ["CreatePolicyVersion"]


async def test_delete_version(scene: Scene, gateway: Gateway) -> None:
    one = step(StepKind.DELETE_VERSION, policy_arn=scene.managed, version="v2")
    assert (await (await gateway()).write(permit(scene.role, one), one)).version == ""
    assert scene.shot()["attached"][scene.managed]["versions"] == {"v1": OLD}
    assert writes(scene.aws) == ["DeletePolicyVersion"]


async def test_set_default_version(scene: Scene, gateway: Gateway) -> None:
    one = step(StepKind.SET_DEFAULT_VERSION, policy_arn=scene.managed, version="v2", text=NEW, before=OLD)
    await (await gateway()).write(permit(scene.role, one), one)
    policy = scene.shot()["attached"][scene.managed]
    assert (policy["default_version"], policy["document_text"]) == ("v2", NEW)
    assert writes(scene.aws) == ["SetDefaultPolicyVersion"]


async def test_attach(scene: Scene, gateway: Gateway) -> None:
    scene.make_copy(attached=False)
    one = step(StepKind.ATTACH, "Copy", policy_arn=scene.copy, text=NEW)
    await (await gateway()).write(permit(scene.role, one), one)
    assert scene.shot()["attached"].keys() == {scene.managed, scene.copy}
    assert writes(scene.aws) == ["AttachRolePolicy"]


async def test_detach(scene: Scene, gateway: Gateway) -> None:
    one = step(StepKind.DETACH, policy_arn=scene.managed, before=OLD)
    await (await gateway()).write(permit(scene.role, one), one)
    assert scene.shot()["attached"] == {}
    assert scene.policy(scene.managed) is not None
    assert writes(scene.aws) == ["DetachRolePolicy"]


async def test_put_inline(scene: Scene, gateway: Gateway) -> None:
    one = step(StepKind.PUT_INLINE, "inline", text=NEW, before=OLD)
    await (await gateway()).write(permit(scene.role, one), one)
    assert scene.shot()["inline"] == {"inline": NEW}
    assert writes(scene.aws) == ["PutRolePolicy"]


async def test_delete_inline(scene: Scene, gateway: Gateway) -> None:
    one = step(StepKind.DELETE_INLINE, "inline", before=OLD)
    await (await gateway()).write(permit(scene.role, one), one)
    assert scene.shot()["inline"] == {}
    assert writes(scene.aws) == ["DeleteRolePolicy"]


async def test_delete_policy(scene: Scene, gateway: Gateway) -> None:
    scene.make_copy(attached=False)
    one = step(StepKind.DELETE_POLICY, "Copy", policy_arn=scene.copy, before=NEW)
    await (await gateway()).write(permit(scene.role, one), one)
    assert scene.policy(scene.copy) is None
    assert writes(scene.aws) == ["DeletePolicy"]


async def test_there_is_a_test_for_every_kind_of_step() -> None:
    assert {f"test_{kind.value}" for kind in StepKind} <= globals().keys()


async def test_what_is_written_is_what_is_read(scene: Scene, gateway: Gateway) -> None:
    """The gateway's own two ends agree, to the byte, and the old text comes back the same way."""
    aws = await gateway()
    before = await aws.role(scene.role)
    one = step(StepKind.PUT_INLINE, "inline", text=NEW, before=OLD)
    back = step(StepKind.PUT_INLINE, "inline", text=OLD, before=NEW)
    await aws.write(permit(scene.role, one), one)
    changed = await aws.role(scene.role)
    assert next(p.text for p in changed.policies if p.name == "inline") == NEW
    await aws.write(permit(scene.role, back), back)
    assert (await aws.role(scene.role)).live_digest() == before.live_digest()


# -------------------- permits

PUT = step(StepKind.PUT_INLINE, "inline", text=NEW, before=OLD)


@pytest.mark.parametrize(
    "forge",
    [
        lambda role: None,
        lambda role: SimpleNamespace(role_arn=role, change_id="c", covers=lambda _: True),
        permit,
        lambda role: permit(role, replace(PUT, text=OLD)),
        lambda role: permit(role, replace(PUT, number=2)),
    ],
    ids=["none", "forged", "empty", "of another text", "of another step"],
)
async def test_without_a_permit_of_that_very_step_nothing_is_sent(
    own: Scene, between: Between, gateway: Gateway, forge: Callable[[str], object]
) -> None:
    with pytest.raises(NotAllowedError):
        await (await gateway()).write(forge(own.role), PUT)  # type: ignore[arg-type]
    assert between.seen == []


@pytest.mark.parametrize("kind", [StepKind.CREATE_POLICY, StepKind.DELETE_POLICY])
async def test_policies_are_made_and_deleted_under_refines_own_path_only(
    own: Scene, between: Between, gateway: Gateway, kind: StepKind
) -> None:
    one = step(kind, policy_arn=own.managed, text=NEW, before=NEW)
    with pytest.raises(NotAllowedError, match="not one of Refine's own"):
        await (await gateway()).write(permit(own.role, one), one)
    assert between.seen == []


async def test_a_member_is_written_in_a_session_of_the_change_that_can_do_nothing_else(
    aws: LocalAws, between: Between, gateway: Gateway
) -> None:
    scene = Scene(aws, MEMBER)
    await (await gateway()).write(permit(scene.role, PUT, change="case 7/apply"), PUT)
    assumed = next(s.form for s in between.seen if s.operation == "AssumeRole")
    assert assumed["RoleSessionName"] == "refine-case-7-apply"
    assert assumed["ExternalId"] == EXTERNAL_ID
    limit = json.loads(assumed["Policy"])["Statement"]
    assert [s["Effect"] for s in limit] == ["Allow"]
    assert {a.removeprefix("iam:") for a in limit[0]["Action"]} == WRITES
    assert limit[0]["Resource"] == [scene.role, f"arn:aws:iam::{MEMBER}:policy/*"]


# -------------------- what goes wrong


def _steps(scene: Scene) -> list[Step]:
    return [
        step(StepKind.CREATE_POLICY, "Copy", policy_arn=scene.copy, text=NEW),
        step(StepKind.CREATE_VERSION, policy_arn=scene.managed, text=NEW, before=OLD),
        step(StepKind.DELETE_VERSION, policy_arn=scene.managed, version="v2"),
        step(StepKind.SET_DEFAULT_VERSION, policy_arn=scene.managed, version="v2", text=NEW, before=OLD),
        step(StepKind.DETACH, policy_arn=scene.managed, before=OLD),
        step(StepKind.ATTACH, policy_arn="arn:aws:iam::aws:policy/ReadOnlyAccess"),
        PUT,
        step(StepKind.DELETE_INLINE, "inline", before=OLD),
    ]


@pytest.mark.parametrize("attempts", ["1", "5"])
@pytest.mark.parametrize("kind", ["lost_reply", "error_before", "error_after"])
async def test_an_unanswered_write_is_unknown_and_is_sent_once(
    own: Scene, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, kind: str, attempts: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)
    aws = await gateway()
    for one in _steps(own):
        own.aws.clear_faults()
        own.aws._calls.clear()
        own.aws.fault(kind=kind)  # type: ignore[arg-type]
        with pytest.raises(UnknownOutcomeError) as caught:
            await aws.write(permit(own.role, one), one)
        assert len(writes(own.aws)) == 1, one.kind
        assert "iam:" in caught.value.sentence
    changed = own.shot()["inline"] == {}
    assert changed == (kind != "error_before")


@pytest.mark.parametrize("how", ["reset", "close", "half", "garbage", "html"])
async def test_however_the_answer_breaks_the_write_is_unknown(
    own: Scene, between: Between, gateway: Gateway, how: str
) -> None:
    """The effect is there each time: whoever took it for a refusal would lose track of it."""
    between.cut("CreatePolicyVersion", how)
    one = step(StepKind.CREATE_VERSION, policy_arn=own.managed, text=NEW, before=OLD)
    with pytest.raises(UnknownOutcomeError):
        await (await gateway()).write(permit(own.role, one), one)
    assert own.shot()["attached"][own.managed]["default_version"] == "v3"
    assert between.operations().count("CreatePolicyVersion") == 1


async def test_the_role_that_the_bot_runs_as_is_never_written_to(
    own: Scene, between: Between, gateway: Gateway
) -> None:
    """Also where its name was not known when the bot started, and the rules could not say so."""
    name = own.role.rsplit("/", 1)[-1]
    me = f"arn:aws:sts::{HUB}:assumed-role/{name}/i-1"
    between.answer("GetCallerIdentity", f"<Account>{HUB}</Account><Arn>{me}</Arn>")
    with pytest.raises(NotAllowedError, match="Refine itself runs as"):
        await (await gateway()).write(permit(own.role, PUT), PUT)
    assert own.shot()["inline"] == {"inline": OLD}


async def test_an_answer_without_what_was_made_is_unknown(own: Scene, between: Between, gateway: Gateway) -> None:
    between.answer("CreatePolicyVersion", "")
    one = step(StepKind.CREATE_VERSION, policy_arn=own.managed, text=NEW, before=OLD)
    with pytest.raises(UnknownOutcomeError):
        await (await gateway()).write(permit(own.role, one), one)


async def test_no_answer_in_time_is_unknown(own: Scene, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    from bot.aws import clients

    monkeypatch.setattr(clients, "_WRITES", clients._WRITES.merge(type(clients._WRITES)(read_timeout=0.3)))
    own.aws.fault(operation="PutRolePolicy", kind="latency", seconds=0.8)
    with pytest.raises(UnknownOutcomeError):
        await (await gateway()).write(permit(own.role, PUT), PUT)
    assert own.shot()["inline"] == {"inline": OLD}
    async with asyncio.timeout(5):  # and it comes late: whoever reads back has to be patient
        while own.shot()["inline"] != {"inline": NEW}:
            await asyncio.sleep(0.05)


async def test_where_no_connection_stands_nothing_was_sent(
    own: Scene, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = await gateway()
    await aws.whoami()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(UnavailableError):
        await aws.write(permit(own.role, PUT), PUT)
    assert own.shot()["inline"] == {"inline": OLD}


async def test_a_throttled_write_was_not_done_and_is_not_sent_again_without_a_look(
    own: Scene, gateway: Gateway
) -> None:
    own.aws.fault(operation="PutRolePolicy", kind="throttle")
    with pytest.raises(ThrottledError):
        await (await gateway()).write(permit(own.role, PUT), PUT)
    assert own.shot()["inline"] == {"inline": OLD}
    assert [c["outcome"] for c in own.aws.calls("iam", "PutRolePolicy")] == ["Throttling"]


async def test_a_denied_write_names_the_action_and_is_sent_once(own: Scene, between: Between, gateway: Gateway) -> None:
    between.refuse("PutRolePolicy", 403, "AccessDenied")
    with pytest.raises(DeniedError, match="iam:PutRolePolicy"):
        await (await gateway()).write(permit(own.role, PUT), PUT)
    assert between.operations().count("PutRolePolicy") == 1


async def test_a_refusal_tells_what_aws_said(own: Scene, gateway: Gateway) -> None:
    aws = await gateway()
    bad = step(StepKind.PUT_INLINE, "inline", text="{not json", before=OLD)
    with pytest.raises(RefusedError, match=r"MalformedPolicyDocument.*[Ss]yntax"):
        await aws.write(permit(own.role, bad), bad)
    default = step(StepKind.DELETE_VERSION, policy_arn=own.managed, version="v1")
    with pytest.raises(RefusedError, match="DeleteConflict"):
        await aws.write(permit(own.role, default), default)
    gone = step(StepKind.DETACH, policy_arn=own.copy, before=OLD)
    with pytest.raises(NotFoundError):
        await aws.write(permit(own.role, gone), gone)
    big = step(StepKind.CREATE_POLICY, "Copy", policy_arn=own.copy, text=allow(*[f"s3:Get{n}" for n in range(700)]))
    with pytest.raises(RefusedError, match="LimitExceeded"):
        await aws.write(permit(own.role, big), big)
    assert own.shot()["inline"] == {"inline": OLD}


async def test_a_service_linked_role_is_left_alone_by_aws_itself(aws: LocalAws, gateway: Gateway) -> None:
    arn = make_role(aws, "AWSServiceRoleForX", Path="/aws-service-role/x.amazonaws.com/")
    with pytest.raises(RefusedError, match="UnmodifiableEntity"):
        await (await gateway()).write(permit(arn, PUT), PUT)


async def test_where_the_member_role_may_not_be_assumed_nothing_was_sent(aws: LocalAws, gateway: Gateway) -> None:
    scene = Scene(aws, MEMBER)
    with pytest.raises(DeniedError, match="RefineMember"):
        await (await gateway(external_id="another-one")).write(permit(scene.role, PUT), PUT)
    assert writes(aws) == []
