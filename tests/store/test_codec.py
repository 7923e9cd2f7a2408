"""Values survive the way to the disk and back, to the bit, and rows of other versions can be read."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bot import model
from bot.errors import StoreError
from bot.model import Case, CaseState, Change, Evidence, Finding, Proposal, Role, RolePolicy
from bot.store.codec import decode, encode
from tests.store.world import AT, no_case, proposal, role, values

MODEL = [v for v in vars(model).values() if is_dataclass(v) and isinstance(v, type)]


@pytest.mark.parametrize("kind", MODEL, ids=lambda k: k.__name__)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_model_value_comes_back_equal_and_its_text_is_canonical(kind: type, data: st.DataObject) -> None:
    value = data.draw(values(kind))
    text = encode(value)
    back = decode(kind, text)
    assert back == value
    assert encode(back) == text
    assert text.isascii()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert type(back) is type(value)
    for f in fields(kind):
        assert type(getattr(back, f.name)) is type(getattr(value, f.name)), f.name


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=values(Proposal))
def test_a_stored_proposal_has_the_digest_that_people_approve(value: Proposal) -> None:
    for service in value.evidence.services:  # a report names an action of a service once
        assume(len({a.action for a in service.actions}) == len(service.actions))
    assert decode(Proposal, encode(value)).digest() == value.digest()


def test_policy_text_survives_to_the_byte() -> None:
    text = '{"Version" :\r\n"2012-10-17",\t"Statement":[],"Statement":[]}\u00e9\u2028\U0001f600\x00\ud800'
    policy = RolePolicy(name="P", kind=model.PolicyKind.INLINE, text=text)
    assert decode(RolePolicy, encode(policy)).text == text


def test_a_row_of_an_older_version_takes_defaults_and_one_of_a_newer_version_loses_what_is_unknown() -> None:
    raw = json.loads(encode(role()))
    del raw["stack"], raw["quotas"]["policy_versions"]
    raw["colour"] = "blue"
    raw["policies"][0]["shape"] = {"round": True}
    assert decode(Role, json.dumps(raw)) == role()


def _without(key: str) -> str:
    raw = json.loads(encode(role()))
    del raw[key]
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Role, _without("arn")),
        (Role, "[]"),
        (Role, "not JSON"),
        (Case, encode(no_case()).replace('"new"', '"nowhere"')),
        (Finding, "{}"),
        (tuple[tuple[str, str], ...], '[["a"]]'),
        (tuple[str, ...], "[1]"),
        (int, "true"),
        (datetime, '"yesterday"'),
    ],
)
def test_what_is_no_such_value_is_refused_in_words_for_people(kind: type, text: str) -> None:
    with pytest.raises(StoreError, match="cannot read"):
        decode(kind, text)


@dataclass(frozen=True)
class _Odd:
    x: object


@pytest.mark.parametrize("value", [_Odd(x=object()), _Odd(x=AT.replace(tzinfo=None)), _Odd(x={1, 2}), _Odd(x=b"")])
def test_what_cannot_be_read_back_is_never_written(value: _Odd) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_a_number_that_json_has_not_is_never_written() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(_Odd(x=float("nan")))


def test_every_kind_of_body_is_covered() -> None:
    assert {Proposal, Change, Role, Evidence, Finding} <= set(MODEL)
    assert decode(Proposal, encode(proposal(no_case(CaseState.WORKING)))) == proposal(no_case(CaseState.WORKING))
