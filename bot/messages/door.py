"""Who may come in: the external principals of a role with the trust conditions that bind them, and what is missing.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html (which
operators hold where a key is absent), …/id_roles_common-scenarios_third-party.html (external ids),
…/id_roles_create_for-idp_oidc.html (`sub` of an identity provider).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bot.messages.text import Mrk, code, cut, listed, many, mrk, shown
from bot.model import Case, ExternalPrincipal, PrincipalKind

Missing = Literal["external_id", "sub", "anything"]

_HOW = {
    "stringequals": "is",
    "stringequalsignorecase": "is",
    "arnequals": "is",
    "numericequals": "is",
    "dateequals": "is",
    "bool": "is",
    "stringlike": "is like",
    "arnlike": "is like",
    "stringnotequals": "is not",
    "stringnotequalsignorecase": "is not",
    "arnnotequals": "is not",
    "stringnotlike": "is not like",
    "arnnotlike": "is not like",
    "ipaddress": "is in",
    "notipaddress": "is not in",
    "null": "is absent:",
    "numericlessthan": "is less than",
    "datelessthan": "is before",
    "dategreaterthan": "is after",
}
# These hold only where the key is there and has one of a few values: they narrow who gets in.
_BINDING = frozenset({"stringequals", "stringequalsignorecase", "stringlike", "arnequals", "arnlike", "ipaddress"})
_ACCOUNT = re.compile(r"\d{12}")
_CONDITIONS = 4  # shown of a way in


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    key: str
    how: str  # our words, between key and values; for an operator that has none, the operator
    values: str
    optional: bool = False  # …IfExists and ForAllValues: hold where the key is absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way in: an external principal, the conditions on it, and what should bind it and does not."""

    kind: PrincipalKind
    value: str
    account: str  # of an AWS principal; empty otherwise
    conditions: tuple[Condition, ...] = ()
    missing: Missing | None = None
    statements: int = 0  # trust statements that let it in
    open_statements: int = 0  # those of them without what is missing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statement:
    principals: tuple[tuple[str, str], ...]  # type and value
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]  # operator, key, values


def ways(case: Case) -> tuple[Way, ...]:
    """Return who may come in, the widest first: by the findings, or by the trust policy where there are none."""
    statements = _statements(case.role.trust_text) if case.role else ()
    found: dict[tuple[str, str], list[ExternalPrincipal]] = {}
    for finding in case.findings:
        for principal in finding.principals:
            found.setdefault((principal.kind.value, principal.value), []).append(principal)
    if not found:
        for kind, value in _outsiders(statements, case.account):
            found.setdefault((kind.value, value), [])
    order = {k: n for n, k in enumerate(PrincipalKind)}
    return tuple(
        sorted(
            (_way(PrincipalKind(kind), value, same, statements) for (kind, value), same in found.items()),
            key=lambda w: (order[w.kind], w.missing is None, w.value),
        )
    )


def _way(kind: PrincipalKind, value: str, named: list[ExternalPrincipal], statements: tuple[_Statement, ...]) -> Way:
    mine = [s for s in statements if any(_is(kind, value, *p) for p in s.principals)]
    conditions = dict.fromkeys(_condition(*c) for s in mine for c in s.conditions)
    if not mine:  # the trust policy was not read, or names the principal in a way of its own: what the finding says
        conditions = dict.fromkeys(
            Condition(key=k, how="is", values=v) for principal in named for k, v in principal.conditions
        )
    need: Missing
    if kind is PrincipalKind.PUBLIC:
        need, bare = "anything", [s for s in mine if not any(_binds(*c) for c in s.conditions)]
    elif kind is PrincipalKind.FEDERATED and ":saml-provider/" not in value:
        need, bare = "sub", [s for s in mine if not any(_binds(*c) and c[1].endswith(":sub") for c in s.conditions)]
    elif kind is PrincipalKind.FEDERATED:
        need, bare = "anything", []
    else:
        need, bare = "external_id", [s for s in mine if not any(_binds_account(*c) for c in s.conditions)]
    return Way(
        kind=kind,
        value=value,
        account=_account(value),
        conditions=tuple(conditions),
        missing=need if bare else None,
        statements=len(mine),
        open_statements=len(bare),
    )


def _binds_account(operator: str, key: str, values: tuple[str, ...]) -> bool:
    return _binds(operator, key, values) and key in {"sts:externalid", "aws:principalorgid", "aws:principalorgpaths"}


def _binds(operator: str, _key: str, values: tuple[str, ...]) -> bool:
    plain, optional = _operator(operator)
    return (
        plain in _BINDING
        and not optional
        and bool(values)
        and not any(re.fullmatch(r"[*?]*\*[*?]*", v) for v in values)
    )


def _operator(operator: str) -> tuple[str, bool]:
    """Return the bare operator in lower case, and whether it holds where the key is absent."""
    plain = operator.lower()
    optional = plain.startswith("forallvalues:") or plain.endswith("ifexists")
    return plain.rpartition(":")[2].removesuffix("ifexists"), optional


def _condition(operator: str, key: str, values: tuple[str, ...]) -> Condition:
    plain, optional = _operator(operator)
    if key == "sts:externalid" and plain in _BINDING and not optional:
        # The value is not for a channel: who knows it is halfway in.
        return Condition(key="sts:ExternalId", how="is asked for", values="")
    shown = ", ".join(values[:3]) + (f" and {len(values) - 3:,} more" if len(values) > 3 else "")
    return Condition(key=key, how=_HOW.get(plain, operator), values=shown, optional=optional)


def _account(value: str) -> str:
    if _ACCOUNT.fullmatch(value):
        return value
    parts = value.split(":")
    return parts[4] if len(parts) > 5 and parts[0] == "arn" and _ACCOUNT.fullmatch(parts[4]) else ""


def _is(kind: PrincipalKind, value: str, of: str, named: str) -> bool:
    """Whether a trust statement's principal is the one that a finding names."""
    match kind:
        case PrincipalKind.PUBLIC:
            return named == "*"
        case PrincipalKind.FEDERATED:
            return of == "Federated" and (named == value or named.rpartition("/")[2] == value.rpartition("/")[2])
        case _:
            if of != "AWS":
                return False
            whole = _ACCOUNT.fullmatch(value) or value.endswith(":root")
            return (
                named == value
                or (
                    bool(_account(value))
                    and _account(named) == _account(value)
                    and (bool(whole) or named.endswith(":root"))
                )
                or (named == _account(value) and bool(named))
            )


def _outsiders(statements: tuple[_Statement, ...], home: str) -> Iterator[tuple[PrincipalKind, str]]:
    for statement in statements:
        for of, value in statement.principals:
            if value == "*":
                yield PrincipalKind.PUBLIC, value
            elif of == "Federated":
                yield PrincipalKind.FEDERATED, value
            elif of == "AWS" and _account(value) not in {"", home}:
                yield PrincipalKind.ACCOUNT, value


def _statements(text: str) -> tuple[_Statement, ...]:
    """Return the Allow statements of a trust policy; none where it cannot be read."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(document, dict):
        return ()
    return tuple(
        _Statement(principals=tuple(_principals(s)), conditions=tuple(_conditions(s.get("Condition"))))
        for s in _many(document.get("Statement"))
        if isinstance(s, dict) and s.get("Effect") == "Allow"
    )


def _principals(statement: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "NotPrincipal" in statement:  # everybody but some
        yield "AWS", "*"
    principal = statement.get("Principal")
    if isinstance(principal, str):
        yield "AWS", principal
    elif isinstance(principal, dict):
        for of, values in principal.items():
            for value in _many(values):
                yield str(of), str(value)


def _conditions(condition: object) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    if not isinstance(condition, dict):
        return
    for operator, keys in condition.items():
        if isinstance(keys, dict):
            for key, values in keys.items():
                shown = tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in _many(values))
                yield str(operator), _key(str(key)), shown


def _key(key: str) -> str:
    """Condition keys are case-insensitive; those that we ask about are brought to one spelling."""
    low = key.lower()
    return low if low.startswith(("sts:externalid", "aws:principalorg")) or low.endswith(":sub") else key


def _many(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def displayed(text: str) -> str:
    """Return a trust policy laid out for people, without the external ids: who knows one is halfway in."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(_hide(document), indent=2, ensure_ascii=False)


def _hide(node: object) -> object:
    if isinstance(node, list):
        return [_hide(each) for each in node]
    if isinstance(node, dict):
        return {k: "(not shown here)" if str(k).lower() == "sts:externalid" else _hide(v) for k, v in node.items()}
    return node


# -------------------- in words


def lines_of(found: tuple[Way, ...], most: int = 6) -> list[Mrk]:
    """Return a line or two for each way in."""
    if not found:
        return [mrk("Nobody from outside, as far as the trust policy says.")]
    return shown([_line(w) for w in found], most, 1_900, "the trust policy has them all")


def _line(way: Way) -> Mrk:
    said = mrk("• {}, {}", _who(way), _bounds(way))
    return mrk("{}\n    ⚠️ {}", said, lack(way)) if way.missing else said


def _who(way: Way) -> Mrk:
    match way.kind:
        case PrincipalKind.PUBLIC:
            return mrk("*Anyone with an AWS account*")
        case PrincipalKind.FEDERATED:
            return mrk("Identity provider {}", code(way.value.rpartition(":oidc-provider/")[2]))
        case _ if way.account == way.value:
            return mrk("Account {}", code(way.value))
        case _ if way.account:
            return mrk("{}", code(way.value))
        case _:
            return code(way.value)


def in_short(way: Way) -> str:
    """Name the principal in plain text, for a table."""
    match way.kind:
        case PrincipalKind.PUBLIC:
            return "anyone with an AWS account"
        case PrincipalKind.FEDERATED:
            return way.value.rpartition("-provider/")[2]
        case _:
            return f"account {way.account}" if way.account else way.value


def _bounds(way: Way) -> Mrk:
    if not way.conditions:
        return mrk("without a condition")
    said = [
        mrk(
            "{} {}{}{}",
            code(c.key, 60),
            cut(c.how, 40),
            mrk(" {}", code(c.values)) if c.values else Mrk(""),
            Mrk(" (where it is given)") if c.optional else Mrk(""),
        )
        for c in way.conditions[:_CONDITIONS]
    ]
    if len(way.conditions) > _CONDITIONS:
        said.append(mrk("{}", many(len(way.conditions) - _CONDITIONS, "more condition")))
    return mrk("where {}", listed(said))


def lack(way: Way) -> Mrk:
    """Say what should bind a way in and does not."""
    where = (
        mrk("The trust policy has no")
        if way.statements < 2
        else mrk("{} of {} trust statements that let it in have no", way.open_statements, way.statements)
    )
    match way.missing:
        case "external_id":
            return mrk("No external id: {} `sts:ExternalId` condition.", _lower(where))
        case "sub":
            return mrk("{} `sub` condition: whoever gets a token from this provider can get in.", where)
        case "anything":
            return mrk("{} condition that says who.", where)
        case None:
            return Mrk("")


def _lower(text: Mrk) -> Mrk:
    return Mrk(text[:1].lower() + text[1:])
