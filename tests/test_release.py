"""One command makes a release: what it holds, its hashes, and when there is none."""

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from helpers import __version__
from tools import links, release

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path):
    """A small checkout under git, whose version, citation and changes agree."""
    root = tmp_path / "checkout"
    for name, text in {
        "CITATION.cff": (ROOT / "CITATION.cff").read_text(),
        "CHANGELOG.md": f"# Changes\n\n## {__version__}\n\n- All of it.\n",
        "README.md": "read me\n", "environment.yml": "name: x\n", "figures/one.pdf": "a figure\n",
        "notebooks/00_one.ipynb": "{}\n", "data/manifests/a.csv": "file\n", "helpers/code.py": "not released\n",
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "data" / "results").mkdir()
    rows = ROOT / "data" / "results" / "evidence_photographs_x8.csv.gz"
    (root / "data" / "results" / rows.name).write_bytes(rows.read_bytes())
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", str(root), *words], check=True)
    return root


def test_a_release_has_rows_figures_environment_revision_and_hashes_of_all(checkout, tmp_path):
    assert release.problems(checkout) == []
    target = tmp_path / "out" / "ida-rd"
    names = release.make(target, checkout)
    wanted = {"environment.txt", "REVISION", ".zenodo.json", "leaderboard/evidence_photographs_x8.json"}
    wanted |= {"data/results/evidence_photographs_x8.csv.gz", "figures/one.pdf", "notebooks/00_one.ipynb"}
    assert wanted <= set(names)
    assert "helpers/code.py" not in names
    sums = dict(line.split("  ")[::-1] for line in (target / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == set(names)
    assert all(hashlib.sha256((target / name).read_bytes()).hexdigest() == sums[name] for name in names)
    assert re.fullmatch(r"[0-9a-f]{40}\n", (target / "REVISION").read_text())
    assert "numpy==" in (target / "environment.txt").read_text()
    about = json.loads((target / ".zenodo.json").read_text())
    assert about["version"] == __version__ and about["creators"] and about["license"] == "MIT"
    ranked = json.loads((target / "leaderboard" / "evidence_photographs_x8.json").read_text())["rows"]
    assert {"bicubic", "nearest"} <= {line["downscaler"] for line in ranked}
    before = (target / "SHA256SUMS").read_bytes()
    assert release.make(target, checkout) == names and (target / "SHA256SUMS").read_bytes() == before
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="expected nothing, or an earlier release"):
        release.make(tmp_path / "other", checkout)


def test_what_does_not_agree_is_no_release(checkout, capsys, monkeypatch, tmp_path):
    (checkout / "CHANGELOG.md").write_text("# Changes\n\n## Unreleased\n\n- New.\n")
    (checkout / "CITATION.cff").write_text(
        (checkout / "CITATION.cff").read_text().replace(f"version: {__version__}", "version: 9")
    )
    found = release.problems(checkout)
    assert len(found) == 4 and "2 files are not as committed" in found[0] and "Unreleased" in found[3]
    monkeypatch.setattr(release, "problems", lambda: found)
    with pytest.raises(SystemExit, match="no release: 2 files are not as committed"):
        release.main([])
    monkeypatch.setattr(release, "make", lambda target, remarks: [] if remarks == found else None)
    release.main(["--draft", "--output", str(tmp_path)])
    assert f"ida-rd-{__version__}-draft: 0 files" in capsys.readouterr().out


def test_links_of_colab_and_binder_open_what_is_here():
    text = links.browser("owner/name")
    opened = re.findall(r"colab\.research\.google\.com/github/owner/name/blob/main/([^)]+)\)", text)
    assert sorted(set(opened)) == sorted(links.notebooks()) and all((ROOT / path).is_file() for path in opened)
    assert "mybinder.org/v2/gh/owner/name/HEAD" in text and (ROOT / "environment.yml").is_file()
    clone, where = links.install("owner/name").splitlines()
    address, package = re.fullmatch(r"!git clone --depth 1 (\S+) && pip install -q -e (\S+)", clone).groups()
    assert address == "https://github.com/owner/name.git" and package == "./name" and where == "%cd name/notebooks"
    project = (ROOT / "pyproject.toml").read_text()
    assert "[build-system]" in project and (ROOT / "notebooks").is_dir()
    pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    extra = re.fullmatch(r"-e \.\[(\w+)\]", pip[-1]).group(1)
    assert re.search(rf"^{extra} = \[", project, re.M)


def test_the_address_is_that_of_the_citation(tmp_path):
    (tmp_path / "CITATION.cff").write_text("repository-code: https://github.com/owner/name\n")
    assert links.repository(tmp_path) == "owner/name"
    (tmp_path / "CITATION.cff").write_text("title: x\n")
    assert links.repository(tmp_path) == "" and "repository-code" in links.browser("")
    (tmp_path / "CITATION.cff").write_text("repository-code: https://example.org/x\n")
    with pytest.raises(
        ValueError, match="expected repository-code like https://github.com/owner/name, got 'https://ex"
    ):
        links.repository(tmp_path)


def test_the_workflow_tests_three_systems_and_both_ends_of_python():
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]["test"]
    assert job["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.13"]
    assert [step["run"] for step in job["steps"] if "run" in step][-1].startswith("make ")
