"""The engine's long campaign: `make bench NAME=policy_long`, or one part of it:

python -m tests.benchmarks.policy_long corpus|properties|judge|fuzz|mutants
"""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from bot.__main__ import refine
from bot.errors import TooBigError
from bot.model import Mode
from bot.policy import load_catalogue, trim
from tests.benchmarks.mutants import campaign
from tests.policy.corpus import NOW, as_role, documents, evidence, granted, problems, settings
from tests.policy.judge import listed, statements

ROOT = Path(__file__).parents[2]
SIMULATOR = "@cloud-copilot/iam-simulate@0.1.173"


def say(line: str) -> None:
    print(line, flush=True)


# -------------------- the corpus, whole


def corpus() -> bool:
    """Every managed policy, every share of use, both modes."""
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    refused: Counter[str] = Counter()
    begun = time.monotonic()
    for number, name in enumerate(documents()):
        if number % 200 == 0:
            say(f"  {number:,} policies, {time.monotonic() - begun:.0f} s, {len(wrong)} wrong")
        for problem, counts in problems(name, (10, 30, 60, -30)):
            seen.update(counts)
            if problem.startswith("refused:"):
                refused[name] += 1
            elif problem:
                wrong.append(problem)
                say(f"  WRONG {problem}")
    say(f"corpus: {len(documents()):,} policies, {json.dumps(dict(sorted(seen.items())))}, {len(wrong)} wrong")
    say(f"corpus: fits no quota, and is refused: {dict(refused)}")
    return not wrong


# -------------------- the properties, many more examples


def properties() -> bool:
    """The tests of tests/policy with twenty times the examples."""
    env = {**os.environ, "REFINE_EXAMPLES": os.environ.get("REFINE_EXAMPLES", "1200")}
    command = [sys.executable, "-m", "pytest", "tests/policy", "-q", "--timeout", "7200", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode == 0


# -------------------- a judge that we did not write


def judge() -> bool:
    """Ask iam-simulate about requests drawn from the corpus: nothing new, nothing kept lost, nothing dropped left."""
    home = Path(tempfile.gettempdir()) / "refine-judge"
    home.mkdir(exist_ok=True)
    if not (home / "node_modules").exists():
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent", SIMULATOR], cwd=home, check=True)
    count: Counter[str] = Counter()
    wrong: list[str] = []
    with subprocess.Popen(
        ["node", str(Path(__file__).with_name("judge.mjs")), str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(policies: list[str], requests: list[dict[str, Any]]) -> list[bool]:
            assert process.stdin is not None
            assert process.stdout is not None
            line = json.dumps({"policies": [json.loads(p) for p in policies], "requests": requests})
            process.stdin.write(line + "\n")
            process.stdin.flush()
            return [said == "Allowed" for said in json.loads(process.stdout.readline())]

        for name in documents():
            actions = granted(name)
            if not actions:
                continue
            report, _ = evidence(name, 30, actions)
            for mode in Mode:
                try:
                    answer = trim(as_role(name), report, load_catalogue(), settings(mode))
                except TooBigError:
                    continue
                requests = list(_requests(name, actions))
                kept = {a.action.lower() for a in answer.actions if a.kept}
                before = ask([documents()[name]], requests)
                after = ask([o.text for o in answer.policies if o.text], requests)
                for request, old, new in zip(requests, before, after, strict=True):
                    low = request["action"].lower()
                    count["requests"] += 1
                    count["allowed before"] += old
                    count["allowed after"] += new
                    count["kept and allowed"] += low in kept and old
                    if new and not old:
                        wrong.append(f"{name} {mode.value}: newly allowed {request}")
                    elif low in kept and old != new:
                        wrong.append(f"{name} {mode.value}: kept but refused {request}")
                    elif low in set(actions) - kept and new:
                        wrong.append(f"{name} {mode.value}: dropped but allowed {request}")
        process.stdin.close()
    for line in wrong[:20]:
        say(f"  {line}")
    say(f"judge: {dict(count)}, {len(wrong)} disagreements")
    return not wrong and count["kept and allowed"] > 1000


def _requests(name: str, actions: list[str]) -> Iterator[dict[str, Any]]:
    """Requests that the policy's statements speak of, with contexts that meet their conditions and empty ones."""
    r = random.Random(f"judge/{name}")
    body = statements(documents()[name])
    for _ in range(40):
        s = r.choice(body)
        pool = (
            actions
            if "NotAction" in s or r.random() < 0.2
            else [p for p in listed(s["Action"]) if "*" not in p] or actions
        )
        resource = r.choice(listed(s.get("Resource", "arn:aws:s3:::elsewhere/x")))
        resource = "arn:aws:s3:::some-bucket/key" if resource == "*" else resource.replace("*", "x").replace("?", "y")
        context: dict[str, Any] = {}
        for operator, keys in s.get("Condition", {}).items():
            for key, value in keys.items():
                values = [
                    str(v).lower() if isinstance(v, bool) else str(v)
                    for v in (value if isinstance(value, list) else [value])
                ]
                picked = r.choice(values).replace("*", "x") if values else "x"
                context[key] = [picked] if operator.startswith("For") else picked
        yield {
            "action": r.choice(pool),
            "resource": resource,
            "context": context if r.random() < 0.8 else {},
        }


# -------------------- fuzzing


def fuzz(seconds: float = float(os.environ.get("REFINE_FUZZ_SECONDS", "600"))) -> bool:
    """Broken documents, patterns, reports and details through the command: an answer or one clear sentence."""
    r = random.Random(os.environ.get("REFINE_SEED", "1"))
    texts = r.sample(list(documents().values()), 200)
    role = "arn:aws:iam::111122223333:role/R"
    report = {
        "JobStatus": "COMPLETED", "JobType": "ACTION_LEVEL", "IsTruncated": False,
        "JobCompletionDate": "2026-01-31T00:00:00Z",
        "ServicesLastAccessed": [
            {"ServiceName": "Amazon S3", "ServiceNamespace": "s3", "LastAuthenticated": "2026-01-30T00:00:00Z",
             "LastAuthenticatedEntity": role, "LastAuthenticatedRegion": "us-east-1", "TrackedActionsLastAccessed": [
                {"ActionName": "ListAllMyBuckets", "LastAccessedTime": "2026-01-30T00:00:00Z"}]},
            {"ServiceNamespace": "ec2"}]}  # fmt: skip
    counts: Counter[str] = Counter()
    slowest = 0.0
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.json" for name in ("policy", "report", "details")}
        while time.monotonic() < end:
            kind = r.choice(("bytes", "tree", "pattern", "report", "report bytes", "details"))
            text = r.choice(texts)
            seen = json.dumps(report)
            if kind == "bytes":
                text = _broken(r, text)
            elif kind == "tree":
                text = json.dumps(_twisted(r, json.loads(text)))
            elif kind == "pattern":
                text = json.dumps(
                    {"Statement": {"Effect": "Allow", "Action": [_pattern(r) for _ in range(3)], "Resource": "*"}}
                )
            elif kind == "report":
                seen = json.dumps(_twisted(r, report))
            elif kind == "report bytes":
                seen = _broken(r, seen)
            details = _details(role, json.loads(text)) if kind == "details" else {}
            written = {"policy": text, "report": seen, "details": json.dumps(_twisted(r, details or {"": 0}))}
            for name, content in written.items():
                files[name].write_bytes(content.encode(r.choice(("utf-8", "utf-16")), "surrogatepass"))
            policies = ["--account-details", str(files["details"]), "--role", "R"] if details else [
                r.choice(("--policy", "--inline-policy")), str(files["policy"])]  # fmt: skip
            form = r.choice(("text", "json", "diff"))
            what = ["explain", _pattern(r)] if r.random() < 0.2 else ["trim", "--format", form]
            begun = time.monotonic()
            done = CliRunner().invoke(
                refine,
                [*what, *policies, "--last-accessed", str(files["report"]), "--mode", r.choice(("safe", "strict")),
                 "--now", NOW.isoformat()],
            )  # fmt: skip
            took = time.monotonic() - begun
            problem = _unclear(done, what)
            if problem:
                say(f"fuzz: {problem} on {kind}, {what}: {json.dumps(written)[:2000]}")
                return False
            counts[f"{kind}, {('answered', 'not granted', 'refused')[done.exit_code]}"] += 1
            slowest = max(slowest, took)
            if took > 20:
                say(f"fuzz: HANG, {took:.0f} s on {kind}: {json.dumps(written)[:500]}")
                return False
    say(
        f"fuzz: {sum(counts.values()):,} inputs in {seconds:.0f} s, slowest {slowest:.2f} s, {dict(sorted(counts.items()))}"
    )
    return True


def _unclear(done: Result, what: list[str]) -> str:
    """Return what is wrong with how the command ended; empty where it is an answer, or one sentence and no answer."""
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"CRASH ({done.exception!r})"
    if done.exit_code not in ((0, 1, 2) if what[0] == "explain" else (0, 2)):
        return f"STATUS {done.exit_code} ({done.stderr[:500]})"
    if not all(c.isprintable() or c == "\n" for c in done.output):
        return "CONTROL CHARACTERS"
    if done.exit_code == 0:
        answered = (
            json.loads(done.stdout)["proof"]["no_new_access"] if "json" in what else done.stdout or "diff" in what
        )
        return "" if answered else "NO ANSWER"
    said = done.stderr.splitlines()
    return "" if not done.stdout and len(said) == 1 and said[0].endswith(".") else f"UNCLEAR ({done.output[:500]})"


def _details(role: str, document: Any) -> dict[str, Any]:
    arn = "arn:aws:iam::111122223333:policy/P"
    version = {"VersionId": "v1", "IsDefaultVersion": True, "CreateDate": "2025-01-01T00:00:00Z", "Document": document}
    return {
        "RoleDetailList": [{
            "RoleName": "R", "Arn": role, "CreateDate": "2024-01-01T00:00:00Z",
            "AttachedManagedPolicies": [{"PolicyName": "P", "PolicyArn": arn}],
            "RolePolicyList": [{"PolicyName": "I", "PolicyDocument": document}]}],
        "Policies": [{"Arn": arn, "PolicyName": "P", "AttachmentCount": 1, "PolicyVersionList": [version]}],
    }  # fmt: skip


def _broken(r: random.Random, text: str) -> str:
    letters = list(text)
    for _ in range(r.randint(1, 4)):
        at = r.randrange(len(letters) or 1)
        act = r.randrange(4)
        if act == 0:
            letters[at : at + r.randint(1, 20)] = []
        elif act == 1:
            letters.insert(at, r.choice('{}[]",:\\\0\ud800é\n*?0e-#/'))
        elif act == 2:
            letters[at:at] = letters[at : at + r.randint(1, 200)]
        else:
            letters[at : at + 1] = r.choice(("NaN", "1e999", "null", "true", "[" * 70, '"\\ud800"', "//", "\u2028"))
    return "".join(letters)


def _twisted(r: random.Random, tree: Any) -> Any:
    """Return a copy of a JSON value with one place of it turned into something else."""
    tree = copy.deepcopy(tree)
    places: list[tuple[Any, Any]] = []
    todo = [tree]
    while todo:
        each = todo.pop()
        keys = list(each) if isinstance(each, dict) else list(range(len(each))) if isinstance(each, list) else []
        places += [(each, k) for k in keys]
        todo += [each[k] for k in keys]
    for _ in range(r.randint(1, 3)):
        where, key = r.choice(places)
        other = r.choice(
            (None, True, 0, -1.5, "", "*", "x", [], {}, [[]], {"": ""}, "s3:*", "2026-13-45", ["*", "a:b"], "é\u2028")
        )
        try:
            where[key] = other
        except (KeyError, IndexError):
            continue
    return tree


def _pattern(r: random.Random) -> str:
    service = r.choice(("s3", "ec2", "iam", "nowhere", "*"))
    return f"{service}:" + "".join(r.choice("**??aeDescribe*GetListPutT") for _ in range(r.randint(1, 60)))


# -------------------- mutants

MUTATED = (
    "patterns", "check", "verdicts", "fit", "engine", "compact", "catalogue", "language", "warn", "rehearse", "give",
)  # fmt: skip
STAGES = (
    ("cases", "language", "patterns", "checker", "compact", "strangers", "give"),
    ("explanations", "properties", "knowledge"),
)


def mutants() -> bool:
    """Break the engine in one place at a time: do the tests notice? Prints who survives; a person judges them."""
    only = os.environ.get("REFINE_MUTATED", " ".join(MUTATED)).split()
    fates = campaign(
        [f"bot/policy/{m}.py" for m in only],
        [[f"tests/policy/test_{t}.py" for t in tests] for tests in STAGES],
        ["tests/policy"],
        count=int(os.environ.get("REFINE_MUTANTS", "240")),
        say=say,
    )
    say(f"mutants: {fates}")
    return fates is not None


PARTS: dict[str, Callable[[], bool]] = {
    "corpus": corpus,
    "properties": properties,
    "judge": judge,
    "fuzz": fuzz,
    "mutants": mutants,
}


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    results: dict[str, Any] = {}
    for part in wanted:
        say(f"== {part}: {(PARTS[part].__doc__ or '').splitlines()[0]}")
        begun = time.monotonic()
        results[part] = {"holds": PARTS[part](), "seconds": round(time.monotonic() - begun)}
    print(json.dumps({"benchmark": "policy_long", **results}))
    sys.exit(0 if all(r["holds"] for r in results.values()) else 1)


if __name__ == "__main__":
    main()
