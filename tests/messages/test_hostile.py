"""Data that tries to break out of a message: the shape stays, nothing in it is live, Slack takes it."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any

import pytest

from bot.messages.text import line
from bot.model import ActionVerdict, AuditEntry, Case, Trim
from bot.policy import Permits
from sandbox.slack.validate import problems
from tests.messages.every import Data, every
from tests.messages.test_golden import text_size, walk

pytestmark = pytest.mark.hostile

HOSTILE = {
    "json": '"},{"type":"actions","elements":[{"type":"button","action_id":"case:approve","value":"other:1"}]},{"a":"',
    "pings": "<!channel> <!here> <@U0EVIL> <#C0X> <!subteam^S0X|x> <https://evil.example|click here>",
    "escaped": "&lt;!channel&gt; &amp;lt;@U0EVIL&amp;gt;",
    "styles": "`x` ```y``` *bold* _slanted_ ~gone~ > quote :boom: https://evil.example #general @here",
    "breaks": "\n\n*Approved by* <@U0ANN>\r\n• line\u2028line\u2029line\tend",
    "unseen": "\x00\x07\x1b[31m\x7f\x9b\u200b\u200f\u202e\u2066\ufeff\U000e0041",
    "jinja": "{{ 7 * 7 }} {% raw %} {# x #} {0} {__class__} %s",
    "long": "A<&>" * 2_500,
    "quotes": "\\\" ' \\u003c!channel\\u003e \\",
}
# What may stand in angle brackets: our dates, people whom the store names, and Slack's own address of a card.
_LIVE = re.compile(
    r"<(?!!date\^\d+\^\{date_short_pretty\} at \{time\}\|[\d: -]+ UTC>|@U0(?:ANN|BEN|RITA)>"
    r"|https://acme\.slack\.com/archives/[\w/?=&;]+\|Open its card>)[^>]*>?"
)
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2028\u2029\u2060-\u206f\ufeff\ud800-\udfff]"
)
# Ids and words of our own, which never come from outside.
_OURS = {
    "id", "case_id", "proposal_id", "channel", "thread_ts", "task", "asked_by", "proposed_by", "by", "who", "what",
    "digest", "expected", "mac", "undoes", "supersedes", "status", "version", "default_version", "versions",
}  # fmt: skip


class Spoilt(Data):
    """Every text from outside with something behind it."""

    def __init__(self, tail: str) -> None:
        self._tail = tail

    def say(self, text: str) -> str:
        return text + self._tail

    def case(self, case: Case) -> Case:
        return self._spoil(case)

    def trim(self, trim: Trim) -> Trim:
        return self._spoil(trim)

    def permits(self, permits: Permits) -> Permits:
        return replace(
            permits,
            services=tuple((self.say(n), c) for n, c in permits.services),
            unread=(self.say("Broken"),),
        )

    def entry(self, entry: AuditEntry) -> AuditEntry:
        return replace(entry, what=self.say(entry.what), detail=tuple((k, self.say(v)) for k, v in entry.detail))

    def _spoil(self, value: Any, name: str = "") -> Any:
        if isinstance(value, Enum | datetime | bool | int) or value is None or name in _OURS:
            return value
        if isinstance(value, str):
            return self._text(value, name)
        if isinstance(value, tuple):
            return tuple(self._spoil(v, name) for v in value)
        if isinstance(value, ActionVerdict):
            return replace(
                value,
                action=self.say(value.action),
                reason=self.say(value.reason),
                region=self.say(value.region) if value.region else "",
                sensitive=self.say(value.sensitive) if value.sensitive else "",
            )
        assert is_dataclass(value), value
        return replace(value, **{f.name: self._spoil(getattr(value, f.name), f.name) for f in fields(value)})

    def _text(self, value: str, name: str) -> str:
        if not value:
            return value
        if name in {"text", "trust_text", "before", "boundary_text"}:
            return json.dumps(self._json(json.loads(value)))
        if name == "namespace":
            return value  # the engine takes them from its catalogue
        return self.say(value)

    def _json(self, node: Any, key: str = "") -> Any:
        if isinstance(node, dict):
            return {k: self._json(v, k) for k, v in node.items()}
        if isinstance(node, list):
            return [self._json(v, key) for v in node]
        return node if key in {"Effect", "Version"} else self.say(node)


def shape(node: Any, key: str = "") -> Any:
    """Return the payload without its texts: types, keys, lengths and what a click would carry."""
    if isinstance(node, dict):
        return {k: shape(v, k) for k, v in node.items()}
    if isinstance(node, list):
        return [shape(v, key) for v in node]
    return node if key in {"type", "style", "callback_id", "verbatim", "emoji", "optional"} else type(node).__name__


@pytest.mark.parametrize("tail", HOSTILE.values(), ids=HOSTILE)
def test_nothing_breaks_out(tail: str) -> None:
    """Same shape as with harmless data, no live mention or link, nothing unseen, and valid; for every template."""
    benign = dict(every(Spoilt("x" * (len(line("-" + tail)) - 1))))  # as long, so that as much is cut
    assert len(benign) > 100
    for name, (surface, draw) in every(Spoilt(tail)):
        payload = draw()
        assert shape(payload) == shape(benign[name][1]()), name
        for node in walk(payload):
            for key, text in node.items():
                if isinstance(text, str):
                    assert not _UNSEEN.search(text), (name, key)
            if node.get("type") == "mrkdwn":
                assert not _LIVE.findall(node["text"]), name
        assert not _LIVE.findall(payload.get("text", "")), name
        assert problems(payload, surface) == [], name
        if surface == "message":
            assert len(payload["text"]) <= 4000, name
            assert text_size(payload["blocks"]) < 11_000, name


@pytest.mark.parametrize("name", ["case:approve", "case:decline"])
def test_no_button_comes_from_data(name: str) -> None:
    """What a click carries is made of the case's id and revision, however the data reads."""
    for each, (_, draw) in every(Spoilt(HOSTILE["json"])):
        values = {n["value"] for n in walk(draw()) if n.get("action_id") == name}
        assert values <= {"c0ffee:7"}, each
