"""The data file and the catalogue: each entry has its source, and speaks of actions that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session

from bot.model import AccessLevel
from bot.policy import load_catalogue
from bot.policy.catalogue import expand
from bot.policy.knowledge import knowledge

FILE = Path(__file__).parents[2] / "bot" / "policy" / "data" / "actions.toml"
ENTRIES: list[tuple[str, dict[str, Any]]] = [
    (kind, entry) for kind, entries in tomllib.loads(FILE.read_text(encoding="utf-8")).items() for entry in entries
]


def test_every_entry_names_its_source_and_says_why() -> None:
    assert {kind for kind, _ in ENTRIES} == {"needed", "invisible", "sensitive", "tagging"}
    for _, entry in ENTRIES:
        assert entry["source"].startswith("https://docs.aws.amazon.com/")
        assert entry["why"]
        assert not entry["why"].endswith(".")


@pytest.mark.parametrize("kind", ["needed", "invisible", "sensitive", "tagging"])
def test_every_pattern_speaks_of_an_action_that_there_is(kind: str) -> None:
    patterns = [p for k, e in ENTRIES if k == kind for p in e.get("actions", e.get("for", ()))]
    assert [p for p in patterns if not expand(p, load_catalogue())] == []


# Requests that name a role and yet pass none: it is who calls, who is meant, or what is changed, or goes.
_NAMED = re.compile(
    r"sts:AssumeRole.*|auditmanager:.*|account-access:.*|securityhub:BatchImportFindings|iot:.*AuditSuppression"
    r"|inspector2:.*|license-manager:CreateToken|[a-z0-9-]+:(Cancel|Disassociate)\w+|neptune-db:Delete\w+",
)
_ROLE = re.compile(r"(role_?arns?|iam_?roles?|(service|execution)_?role)$", re.IGNORECASE)


def _takes_role(shapes: dict[str, Any], root: str) -> bool:
    """Tell whether a request of that shape has a role somewhere in it."""
    todo, seen = [root], {root}
    while todo:
        shape = shapes[todo.pop()]
        members = shape.get("members", {})
        if any(_ROLE.search(k) and shapes[m["shape"]]["type"] in {"string", "list"} for k, m in members.items()):
            return True
        inner = {m["shape"] for m in (*members.values(), *(shape[k] for k in ("member", "value") if k in shape))}
        todo += inner - seen
        seen |= inner
    return False


def test_what_takes_a_role_in_its_request_needs_the_right_to_pass_one() -> None:
    """Of AWS's own models: else a role that, say, starts jobs would lose the right to pass them their role."""
    loader = Session().get_component("data_loader")
    catalogue, known = load_catalogue(), knowledge().pairs["iam:passrole"]
    found, missing = 0, []
    for service in loader.list_available_services("service-2"):
        model = loader.load_service_model(service, "service-2")
        about = model["metadata"]
        prefixes = dict.fromkeys((about.get("signingName"), about["endpointPrefix"], service, service.replace("-", "")))
        for name, operation in model["operations"].items():
            if "input" not in operation or not _takes_role(model["shapes"], operation["input"]["shape"]):
                continue
            there = (catalogue.actions(p).get(name.lower()) for p in prefixes if p)
            action = next((a for a in there if a), None)
            if action is None or action.level in {AccessLevel.LIST, AccessLevel.READ} or _NAMED.fullmatch(action.full):
                continue
            found += 1
            if known.consumer([action.full]) is None:
                missing.append(action.full)
    assert found > 700
    assert missing == []


def test_a_mere_look_at_what_takes_roles_needs_none() -> None:
    known = knowledge().pairs["iam:passrole"]
    idle = ["lambda:ListFunctions", "sagemaker:CreatePresignedDomainUrl", "sts:AssumeRole", "ec2:TerminateInstances"]
    assert known.consumer(idle) is None
    assert known.consumer([*idle, "Lambda:CreateFunction"]) == "Lambda:CreateFunction"


@pytest.mark.parametrize(
    ("action", "trait"),
    [
        ("rds-db:connect", "invisible"),
        ("execute-api:invoke", "invisible"),
        ("kafka-cluster:readdata", "invisible"),
        ("es:eshttpget", "invisible"),
        ("kms:decrypt", "sensitive"),
        ("iam:createservicelinkedrole", "sensitive"),
        ("rds:restoredbinstancefroms3", "sensitive"),
        ("dynamodb:restoretabletopointintime", "sensitive"),
        ("ec2:createtags", "tagging"),
        ("sqs:tagqueue", "tagging"),
        ("dynamodb:tagresource", "tagging"),
        ("rds:addtagstoresource", "tagging"),
        ("s3:putobjecttagging", "tagging"),
        ("autoscaling:createorupdatetags", "tagging"),
    ],
)
def test_what_is_marked(action: str, trait: str) -> None:
    assert getattr(knowledge(), trait).of(action)


@pytest.mark.parametrize(
    "action",
    ["s3:getobject", "s3:getobjecttagging", "sqs:untagqueue", "es:createdomain", "kms:encrypt", "rds:createdbinstance"],
)
def test_what_is_not_marked(action: str) -> None:
    assert knowledge().invisible.of(action) == ""
    assert knowledge().sensitive.of(action) == ""
    assert knowledge().tagging.of(action) == ""


@pytest.mark.parametrize(
    ("action", "level"),
    [
        ("s3:GetObject", AccessLevel.READ),
        ("s3:ListBucket", AccessLevel.LIST),
        ("s3:PutObject", AccessLevel.WRITE),
        ("s3:PutBucketPolicy", AccessLevel.PERMISSIONS),
        ("dynamodb:TagResource", AccessLevel.TAGGING),
        ("iam:PassRole", AccessLevel.PERMISSIONS),
    ],
)
def test_access_levels_are_awss_own(action: str, level: AccessLevel) -> None:
    """The package writes "Permissions management, Write" and "Tagging, Write": the first word is the level."""
    [found] = expand(action, load_catalogue()).values()
    assert found.level is level


def test_no_action_of_the_catalogue_is_without_a_level() -> None:
    catalogue = load_catalogue()
    levels = [a.level for s in catalogue.services() for a in catalogue.actions(s).values()]
    assert len(levels) > 20_000
    assert AccessLevel.UNKNOWN not in levels
