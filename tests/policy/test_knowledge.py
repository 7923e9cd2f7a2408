"""The data file and the catalogue: each entry has its source, and speaks of actions that there are."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from bot.model import AccessLevel
from bot.policy import load_catalogue
from bot.policy.catalogue import expand
from bot.policy.knowledge import knowledge

FILE = Path(__file__).parents[2] / "bot" / "policy" / "data" / "actions.toml"
ENTRIES: list[tuple[str, dict[str, Any]]] = [
    (kind, entry) for kind, entries in tomllib.loads(FILE.read_text(encoding="utf-8")).items() for entry in entries
]


def test_every_entry_names_its_source_and_says_why() -> None:
    assert {kind for kind, _ in ENTRIES} == {"needed", "invisible", "sensitive"}
    for _, entry in ENTRIES:
        assert entry["source"].startswith("https://docs.aws.amazon.com/")
        assert entry["why"]
        assert not entry["why"].endswith(".")


@pytest.mark.parametrize("kind", ["needed", "invisible", "sensitive"])
def test_every_pattern_speaks_of_an_action_that_there_is(kind: str) -> None:
    patterns = [p for k, e in ENTRIES if k == kind for p in e.get("actions", e.get("for", ()))]
    assert [p for p in patterns if not expand(p, load_catalogue())] == []


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
    ],
)
def test_what_is_marked(action: str, trait: str) -> None:
    assert getattr(knowledge(), trait).of(action)


@pytest.mark.parametrize("action", ["s3:getobject", "es:createdomain", "kms:encrypt", "rds:createdbinstance"])
def test_what_is_not_marked(action: str) -> None:
    assert knowledge().invisible.of(action) == ""
    assert knowledge().sensitive.of(action) == ""


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
