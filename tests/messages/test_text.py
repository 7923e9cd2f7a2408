"""Data in mrkdwn, and the templates' environment: what is easy to write is safe, what is not fails at once."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateAssertionError, UndefinedError, nodes
from markupsafe import Markup

from bot.messages import render as rendering
from bot.messages.text import (
    Mrk,
    box,
    clean,
    code,
    cut,
    escape,
    line,
    lines,
    listed,
    many,
    mention,
    mrk,
    shown,
    some,
    when,
)

NASTY = st.text(
    st.characters() | st.sampled_from('<>&@!#|`*_~:\\"{}[],\x00\r\n\t\u202e\u2066\u2028\ud800'), max_size=60
)


@settings(deadline=None)
@given(NASTY)
def test_data_never_opens_a_bracket(data: str) -> None:
    """Mentions, links and dates start with `<`: none comes from data, in code or out of it."""
    said = mrk("{} and {}", data, code(data))
    assert "<" not in said
    assert ">" not in said
    assert all(m in {"&amp;", "&lt;", "&gt;"} for m in re.findall(r"&\w*;?", said))


@settings(deadline=None)
@given(NASTY)
def test_data_cannot_leave_its_code_span(data: str) -> None:
    said = code(data)
    assert said == "(empty)" or (said[0] == said[-1] == "`" and "`" not in said[1:-1])
    assert "\n" not in said


@settings(deadline=None)
@given(NASTY)
def test_data_is_one_line_of_what_can_be_seen(data: str) -> None:
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff]", line(data))
    assert clean(clean(data)) == clean(data)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab&<>"), max_size=40), st.integers(2, 30))
def test_a_cut_keeps_entities_whole(data: str, most: int) -> None:
    done = escape(data, most)
    assert len(done) <= most
    assert re.fullmatch(r"(?:[ab]|&amp;|&lt;|&gt;)*…?", done)
    assert done.endswith("…") == (len(escape(data)) + 1 > most and len(escape(data)) > len(done.rstrip("…")))


def test_numbers_get_separators_and_mrkdwn_stays_as_it_is() -> None:
    assert mrk("{} of {}", 1234, mrk("*{}*", "a&b")) == "1,234 of *a&amp;b*"


def test_only_ids_of_slack_become_mentions() -> None:
    assert mention("U0ANN") == "<@U0ANN>"
    assert mention("S0APPROVERS") == "<!subteam^S0APPROVERS>"
    assert mention("refine") == mention("") == "Refine"
    assert mention("U1> <!channel") == "`U1&gt; &lt;!channel`"


def test_a_time_is_the_readers_own_with_utc_to_fall_back_on() -> None:
    at = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    assert when(at) == "<!date^1769851800^{date_short_pretty} at {time}|2026-01-31 09:30 UTC>"


def test_joining_says_what_is_missing() -> None:
    names = [mrk("{}", f"n{i}") for i in range(5)]
    assert listed(names[:1]) == "n0"
    assert listed(names[:3], "or") == "n0, n1 or n2"
    assert some(names, 5) == "n0, n1, n2, n3, n4"
    assert some(names, 2, "in the file") == "n0, n1 and 3 more (in the file)"
    assert some(names, 5, room=10) == "n0, n1 and 3 more"
    assert some(names, 2, of=1_000) == "n0, n1 and 998 more"
    assert lines(shown(names, 2, 100, "the rest is below")) == "n0\nn1\n_2 of 5 shown; the rest is below._"
    assert shown(names, 5, 100, "never said") == names
    assert box(["a"] * 3, 1000) == "a\na\na"
    assert box(["a" * 30] * 9, 160).endswith("… 3 of 9 lines shown; the rest is in the files")
    assert (many(1, "action"), many(2, "action"), many(1200, "reply", "replies")) == (
        "1 action",
        "2 actions",
        "1,200 replies",
    )
    assert cut("abcdef", 4) == "abc…"


# -------------------- the environment


def draw(source: str, **context: Any) -> Any:
    return json.loads(rendering._environment().from_string(source).render(**context))


@settings(deadline=None)
@given(NASTY)
def test_every_expression_is_a_json_value(data: str) -> None:
    assert draw('{"a": {{ x }}, "b": [{{ n }}, {{ b }}, {{ z }}]}', x=data, n=3, b=True, z=None) == {
        "a": clean(data),
        "b": [3, True, None],
    }


@pytest.mark.parametrize(
    "source", ['{"a": "{{ x }}"}', '{"a": {{ x|e }}}', '{"a": {{ x|safe }}}', '{"a": {{ x|tojson }}}']
)
def test_slips_fail_at_once(source: str) -> None:
    """Quotes around an expression are no JSON; filters that get around the encoding do not exist."""
    with pytest.raises((json.JSONDecodeError, TemplateAssertionError)):
        draw(source, x='a "quote"')


def test_a_misspelt_name_fails() -> None:
    with pytest.raises(UndefinedError):
        draw('{"a": {{ rolle }}}', role="x")


def test_mrkdwn_is_taken_from_the_filter_alone() -> None:
    source = '{% from "kit.j2" import section %}[{{ section(t) }}{}]'
    assert draw(source, t=Mrk("*x*"))[0]["text"]["text"] == "*x*"
    with pytest.raises(TypeError, match="mrk filter"):
        draw(source, t="*x* from outside")


def test_a_template_prints_no_objects() -> None:
    with pytest.raises(TypeError, match="list"):
        draw('{"a": {{ x }}}', x=["a"])


@pytest.mark.parametrize("text", ['a,]"b,}', "\\", '\\",}', ",]"])
def test_only_commas_outside_strings_are_dropped(text: str) -> None:
    made = "[" + json.dumps({"a": text}) + ",]"
    assert json.loads(rendering._TRAILING.sub(lambda m: m[0] if m[0] != "," else "", made)) == [{"a": text}]


def test_a_key_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        json.loads('{"a": 1, "a": 2}', object_pairs_hook=rendering._no_twins)


@pytest.mark.parametrize("name", rendering._environment().list_templates(extensions=["j2"]))
def test_format_strings_are_the_templates_own(name: str) -> None:
    """What the `mrk` filter takes for trusted is a literal, everywhere; no template turns the escaping off."""
    environment = rendering._environment()
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, name)
    tree = environment.parse(source)
    for found in tree.find_all(nodes.Filter):
        if found.name == "mrk":
            assert isinstance(found.node, nodes.Const), f"line {found.lineno}"
    assert not list(tree.find_all((nodes.ScopedEvalContextModifier, nodes.MarkSafe, nodes.Include)))
    assert "Markup" not in source


def test_markup_from_outside_is_not_taken_for_json() -> None:
    """Only macros make markup: a view-model's text is never of that class."""
    with pytest.raises(TypeError):
        rendering.render("line", said=Markup("x"), reason="", foot=Mrk(""))
