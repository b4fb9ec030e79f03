"""Make a release: `python -m tools.release` (`make release`) lays out `dist/ida-rd-VERSION/`, ready for an archive.

The folder holds what a reader needs to check a number: published rows and tables, their leaderboard, figures, the
executed notebooks, manifests, the cards and hashes of the embedded weights, the locked and the actual environment, the
revision, and SHA256SUMS of all of it; `.zenodo.json` describes it to an archive that gives a DOI. Equal inputs, equal
bytes. It is made of a clean checkout whose version, CITATION.cff and CHANGELOG.md agree; `--draft` says what does not.
"""

import argparse
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import yaml

from helpers import __version__, files, results
from helpers.stats import leaderboard

ROOT = Path(__file__).parents[1]
PARTS = (  # what is copied, as globs from the root
    "README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "environment.yml", "requirements.lock", "pyproject.toml",
    "data/results/*", "data/manifests/*", "data/weights/*.json", "data/weights/*.md", "data/weights/SHA256SUMS",
    "figures/*.pdf", "figures/*.png", "notebooks/*.ipynb", "notebooks/training/*.ipynb", "notebooks/paper/*.yaml",
)  # fmt: skip


def problems(root: Path = ROOT) -> list[str]:
    """Why what is here is no release, one sentence each."""
    found = []
    if changed := _git(root, "status", "--porcelain"):
        found.append(
            f"{len(changed.splitlines())} files are not as committed, {changed.splitlines()[0].strip()!r} first"
        )
    cited = str(yaml.safe_load((root / "CITATION.cff").read_text())["version"])
    if cited != __version__:
        found.append(f"CITATION.cff has version {cited}, the package {__version__}")
    changes = (root / "CHANGELOG.md").read_text()
    if f"\n## {__version__}\n" not in changes:
        found.append(f"CHANGELOG.md has no section {__version__}")
    if re.search(r"^## Unreleased\n+(?!## )\S", changes, re.M):
        found.append("CHANGELOG.md has changes under Unreleased")
    return found


def make(target: Path, root: Path = ROOT, remarks: Sequence[str] = ()) -> list[str]:
    """Write the folder of a release.

    Args:
        target: replaced if it is there and was made by this.
        root: the checkout.
        remarks: why it is a draft.

    Returns:
        The names of its files.

    Raises:
        ValueError: something else is at `target`.
    """
    if target.exists() and not (target / "SHA256SUMS").is_file():
        raise ValueError(f"{target}: expected nothing, or an earlier release, which is replaced")
    shutil.rmtree(target, ignore_errors=True)
    for pattern in PARTS:
        for path in sorted(each for each in root.glob(pattern) if each.is_file()):
            copy = target / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for rows in sorted((root / "data" / "results").glob("evidence_*.csv.gz")):
        text = leaderboard.as_json(leaderboard.table(results.read(rows, mixed=tuple(results.ONE_OF))))
        files.replace(target / "leaderboard" / f"{rows.name.removesuffix('.csv.gz')}.json", text)
    files.replace(target / "environment.txt", environment())
    files.replace(
        target / "REVISION", f"{_git(root, 'rev-parse', 'HEAD')}\n" + "".join(f"draft: {r}\n" for r in remarks)
    )
    files.replace(target / ".zenodo.json", zenodo(root))
    names = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    sums = [f"{hashlib.sha256((target / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    files.replace(target / "SHA256SUMS", "".join(sums))
    return names


def environment() -> str:
    """Python, the machine's kind, and every distribution that is installed, one a line."""
    about = f"# Python {platform.python_version()} on {platform.system()} {platform.machine()}\n"
    found = {each.metadata["Name"].lower(): each.version for each in metadata.distributions() if each.metadata["Name"]}
    return about + "".join(f"{name}=={version}\n" for name, version in sorted(found.items()))


def zenodo(root: Path = ROOT) -> str:
    """What Zenodo reads of a deposit, from CITATION.cff."""
    cited = yaml.safe_load((root / "CITATION.cff").read_text())
    names = [each.get("name") or f"{each['family-names']}, {each['given-names']}" for each in cited["authors"]]
    related = [{"identifier": each["url"], "relation": "isSupplementTo"} for each in cited.get("references", ())]
    about = {"title": cited["title"], "version": __version__, "upload_type": "software", "license": cited["license"]}
    about |= {"creators": [{"name": name} for name in names], "related_identifiers": related}
    return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of this file; SystemExit with a sentence where there is nothing to release."""
    parser = argparse.ArgumentParser(prog="python -m tools.release", description=__doc__.splitlines()[0])
    parser.add_argument("--draft", action="store_true", help="make it all the same, and say in it what does not agree")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder to make it in")
    asked = parser.parse_args(arguments)
    found = problems()
    if found and not asked.draft:
        raise SystemExit(f"no release: {'; '.join(found)}. `make release DRAFT=1` makes a draft")
    target = asked.output / f"ida-rd-{__version__}{'-draft' * bool(found)}"
    names = make(target, remarks=found)
    size = sum((target / name).stat().st_size for name in names) / 1e6
    print(f"{target}: {len(names)} files, {size:.0f} MB, SHA256SUMS of all", *found, sep="\n", file=sys.stdout)


if __name__ == "__main__":
    main()
