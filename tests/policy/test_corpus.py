"""A sample of AWS's own managed policies, the biggest among them; `python -m tests.benchmarks.policy_long` runs all."""

import random

import pytest

from tests.policy.corpus import documents, problems

BIGGEST = ("AdministratorAccess", "PowerUserAccess", "ReadOnlyAccess", "SecurityAudit", "AmazonS3FullAccess")
SAMPLE = random.Random(3).sample(sorted(set(documents()) - set(BIGGEST)), 55)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_managed_policy_loses_nothing_used_and_gains_nothing(name: str) -> None:
    """No used action lost, no access new, nothing untracked dropped in safe mode, nothing provably unused kept, all
    within IAM's limits, accepted by the checker, and the result trims to itself."""
    assert [wrong for wrong, _ in problems(name) if wrong] == []


@pytest.mark.parametrize("name", BIGGEST)
def test_the_biggest_ones_too(name: str) -> None:
    assert [wrong for wrong, _ in problems(name, (-30,)) if wrong] == []


def test_what_fits_no_quota_is_refused_and_never_cut() -> None:
    """A tenth of all that an administrator may do, drawn at random, and all that nobody can know about, is too much for
    ten policies in safe mode; strict mode writes it."""
    [found] = [wrong for wrong, _ in problems("AdministratorAccess", (10,)) if wrong]
    assert found.startswith("refused: AdministratorAccess 10 safe")
