"""Faults that can be set while it runs: per Web API method, for uploads, response URLs and sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KINDS = ("429", "500", "drop", "lost_reply", "slow")
NOT_METHODS = ("upload", "respond", "socket")
"""Names in place of a method: the upload of bytes, an answer to a response_url, an envelope on a socket."""


@dataclass(kw_only=True)
class Fault:
    """One rule.

    Attributes:
        method: such as "chat.postMessage", "*" for every method, or one of NOT_METHODS.
        kind: "429" and "500" answer so; "drop" closes the connection before the effect, "lost_reply" after it;
            "slow" waits first. On "socket" only "slow" (an envelope comes late) and "drop" (the connection breaks in
            place of the envelope) mean something.
        times: how often; None for ever.
    """

    method: str
    kind: str
    times: int | None = 1
    retry_after: int = 1
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"There is no fault {self.kind!r}, but {KINDS}.")


@dataclass
class Faults:
    rules: list[Fault] = field(default_factory=list)

    def add(self, **rule: Any) -> None:
        self.rules.append(Fault(**rule))

    def clear(self) -> None:
        self.rules.clear()

    def take(self, method: str) -> Fault | None:
        """Return the first rule for this method, and count it."""
        for rule in self.rules:
            if rule.method == method or (rule.method == "*" and method not in NOT_METHODS):
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times <= 0:
                        self.rules.remove(rule)
                return rule
        return None
