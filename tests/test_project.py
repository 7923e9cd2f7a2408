"""What the project says of itself: the README, the image, the locks."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bot.config import Settings
from tests import readme

ROOT = Path(__file__).parent.parent
TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT, capture_output=True, text=True, check=True,
).stdout.split("\n")  # fmt: skip


@pytest.mark.parametrize("name", readme.PARTS)
def test_the_documents_list_what_the_code_has(name: str) -> None:
    file, make = readme.PARTS[name]
    found = readme.part(name).search(file.read_text(encoding="utf-8"))
    assert found is not None
    assert found[2] == make(), "make readme writes it anew"


def test_the_readme_names_no_setting_that_is_not_there() -> None:
    named = set(re.findall(r"\b(?:REFINE|SLACK)_[A-Z_]+\b", readme.README.read_text(encoding="utf-8")))
    assert named <= {name.upper() for name in Settings.model_fields}


def test_every_path_that_the_readme_links_is_there() -> None:
    text = readme.README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_the_dockerfile_passes_hadolint() -> None:
    lint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([lint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_build_steps_of_the_image_make_a_working_refine(tmp_path: Path) -> None:
    """No Docker engine is needed to see that the build stage's own commands work: they run here, in a clean folder."""
    target, source = tmp_path / "opt" / "refine", tmp_path / "src"
    source.mkdir()
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    ran = 0
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM" and " AS " not in rest:
            break  # the second stage only copies
        if word == "COPY":
            *what, where = rest.split()
            for each in what:
                place = source / where
                if (ROOT / each).is_dir():
                    shutil.copytree(ROOT / each, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    (place if where.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / each, place)
        if word == "RUN":
            command = rest.replace("/opt/refine", str(target)).replace("python -m venv", f"{sys.executable} -m venv")
            done = subprocess.run(["sh", "-c", command], cwd=source, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            ran += 1
    assert ran >= 3
    shutil.rmtree(source)  # what is installed must not lean on it
    for args in (["--version"], ["manifest"], ["trim", "--help"], ["run", "--help"]):
        done = subprocess.run(
            [target / "bin" / "refine", *args], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
    # The templates, the data and the migrations travel too: without settings, only the settings are missing.
    done = subprocess.run(
        [target / "bin" / "refine", "run"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"HOME": str(tmp_path)},
    )
    assert done.returncode == 2
    assert "SLACK_BOT_TOKEN is not set." in done.stderr
    for package, file in (("templates", "kit.j2"), ("bot", "policy/data/actions.toml")):
        assert list(target.glob(f"lib/python3*/site-packages/{package}/{file}")), file


def test_no_tracked_file_names_a_registry_a_machine_path_or_holds_a_secret() -> None:
    hosts = "|".join(("pypi" + r"\.org", "files" + r"\.pythonhosted", "registry" + r"\.npmjs", "deb" + r"\.debian"))
    secrets = r"xox[bap]-\d{6,}|AKIA(?!SANDBOX|IOSFODNN)[A-Z0-9]{16}|-----BEGIN [A-Z ]*PRIVATE"
    bad = re.compile(rf"{hosts}|/home/\w+/|/root/|/work/|{secrets}")
    for name in filter(None, TRACKED):
        path = ROOT / name
        if not path.is_file() or path.suffix in {".png", ".ico"} or path == Path(__file__):
            continue
        found = bad.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{name}: {found and found[0]}"
