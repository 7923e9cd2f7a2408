"""What goes wrong on purpose: rules that can be set, changed and cleared while the server runs."""

from __future__ import annotations

import random
import threading
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["latency", "throttle", "denied", "refused", "error_before", "error_after", "lost_reply", "lag"]
KINDS = frozenset(get_args(Kind))
SERVICES = {"accessanalyzer": "access-analyzer"}  # people write botocore's name, requests are signed with AWS's


@dataclass(kw_only=True)
class Fault:
    """One rule. `rate` is the share of calls that it hits, `times` how many hits are left (None: no end).

    latency: the answer takes `seconds` longer. throttle, denied: refused before it has any effect, as AWS does it.
    refused: the same, with the error code that `code` names.
    error_before, error_after: a server error without and with the effect. lost_reply: the effect, then a closed
    connection. lag: reads show the state of `seconds` ago.
    """

    kind: Kind
    operation: str = "*"
    service: str = "iam"
    seconds: float = 0.0
    rate: float = 1.0
    times: int | None = None
    code: str = ""

    def __post_init__(self) -> None:
        self.service = SERVICES.get(self.service, self.service)
        if self.kind not in KINDS:
            raise ValueError(f"there is no fault {self.kind!r}: it is one of {', '.join(sorted(KINDS))}")
        if (self.kind == "refused") is not bool(self.code):
            raise ValueError("refused, and nothing else, is with the code of an error")
        if not 0 <= self.rate <= 1:
            raise ValueError("a rate is a share between 0 and 1")

    def meets(self, service: str, operation: str) -> bool:
        return self.service in ("*", service) and self.operation in ("*", operation)


@dataclass(kw_only=True)
class Hit:
    """What a call has to suffer."""

    latency: float = 0.0
    throttle: bool = False
    denied: bool = False
    refused: str = ""
    error_before: bool = False
    error_after: bool = False
    lost_reply: bool = False
    lag: float = 0.0

    def names(self) -> list[str]:
        return [name for name, value in asdict(self).items() if value]


@dataclass
class Faults:
    rules: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _random: random.Random = field(default_factory=lambda: random.Random(20_261_124), repr=False)

    def add(self, *rules: Fault) -> None:
        with self._lock:
            self.rules.extend(rules)

    def clear(self) -> None:
        with self._lock:
            self.rules.clear()

    def as_json(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(rule) for rule in self.rules]

    def lagging(self) -> bool:
        """Whether older states are worth keeping."""
        with self._lock:
            return any(rule.kind == "lag" for rule in self.rules)

    def take(self, service: str, operation: str) -> Hit:
        """Return what hits this call, and count it."""
        hit = Hit()
        with self._lock:
            for rule in list(self.rules):
                if not rule.meets(service, operation) or (rule.rate < 1 and self._random.random() >= rule.rate):
                    continue
                if rule.kind == "latency":
                    hit.latency += rule.seconds
                elif rule.kind == "lag":
                    hit.lag = max(hit.lag, rule.seconds)
                elif rule.kind == "refused":
                    hit.refused = rule.code
                else:
                    setattr(hit, rule.kind, True)
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times <= 0:
                        self.rules.remove(rule)
        return hit
