"""Links that open the notebooks in a browser, Colab and Binder, from the address of the repository.

The address is `repository-code` of CITATION.cff, "https://github.com/owner/name"; `tools.fill_tables` writes the block
into README.md. Neither service can be reached from a test: tests hold the lines against what is here.
"""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
HOST = "https://github.com/"


def repository(root: Path = ROOT) -> str:
    """ "owner/name" on GitHub, as CITATION.cff has it; "" where it has none.

    Raises:
        ValueError: another address.
    """
    address = yaml.safe_load((root / "CITATION.cff").read_text()).get("repository-code", "").rstrip("/")
    found = address.removeprefix(HOST).removesuffix(".git")
    if address and (not address.startswith(HOST) or found.count("/") != 1):
        raise ValueError(f"CITATION.cff: expected repository-code like {HOST}owner/name, got {address!r}")
    return found


def notebooks(root: Path = ROOT) -> list[str]:
    """The notebooks below `root`, numbered ones first, as paths."""
    found = [*sorted(root.glob("notebooks/[0-9]*.ipynb")), *sorted(root.glob("notebooks/training/*.ipynb"))]
    return [path.relative_to(root).as_posix() for path in found]


def install(where: str) -> str:
    """The cell that a notebook on Colab needs before its first one; all the rest is embedded."""
    name = where.rpartition("/")[2]
    return f"!git clone --depth 1 {HOST}{where}.git && pip install -q -e ./{name}\n%cd {name}/notebooks"


def browser(where: str | None = None) -> str:
    """The block of README.md; `where` as `repository` gives it."""
    where = repository() if where is None else where
    if not where:
        return (
            "Binder reads `environment.yml`, and Colab opens any notebook of a public repository. Once CITATION.cff "
            "names the address (`repository-code`), `python -m tools.fill_tables` puts the links here."
        )
    colab = f"https://colab.research.google.com/github/{where}/blob/main/"
    binder = f"https://mybinder.org/v2/gh/{where}/HEAD?labpath=notebooks"
    links = [f"[{Path(path).stem.partition('_')[0] if '/training/' not in path else Path(path).stem}]({colab}{path})"
             for path in notebooks()]  # fmt: skip
    return (
        f"[![Binder](https://mybinder.org/badge_logo.svg)]({binder}) reads `environment.yml`. "
        f"[![Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}{notebooks()[0]}) opens "
        f"{' · '.join(links)}; there the first cell to run is\n\n```\n{install(where)}\n```"
    )
