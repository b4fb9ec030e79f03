"""Build the web book: `python -m tools.book` (`make book`) writes `book/_build/html`, offline, from what is committed.

The pages are the executed notebooks as they are, the files of `book/`, a leaderboard of the published rows, and a page
to explore small crops by hand, whose draws are computed here; where the Multi-Realism codec comes with the package, a
page of its answers, too. Warnings are errors; two builds are the same bytes.
Needs the extra: `pip install -e ".[book]"`.
"""

import argparse
import html
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from helpers import datasets, results
from helpers.distortions import against
from helpers.downscalers import DOWNSCALERS
from helpers.images import quantize, write_rgb
from helpers.rescalers import multi_realism
from helpers.rescalers.multi_realism import HIGHEST, Codec, decode, encode
from helpers.runtime import seeded
from helpers.stats import leaderboard
from helpers.upscalers import UPSCALERS

ROOT = Path(__file__).parents[1]
BOOK = ROOT / "book"
BUILD = BOOK / "_build"
CROPS = {"kodim03": (180, 330), "kodim08": (200, 300), "kodim23": (100, 200)}  # of Kodak photographs: top, left
SIDE = 128  # of a crop, pixels
EXPLORED = {"downscaler": ["bicubic", "nearest", "lanczos", "dpid"], "scale": [4, 8]}
DRAWS = 2
REALISM = {"level": [0, 2], "beta": [0, 0.64, 1.28, 2.56]}
CARDS = "data/weights/README"  # where the notebooks' links look for the cards of our models
MATHJAX = "sphinx-mathjax-offline"  # a package that carries MathJax 3; its one file is copied
LABELS = {"lpips": "LPIPS", "lpips_embedded": "embedded LPIPS", "1-ms_ssim": "1 - MS-SSIM", "mse": "MSE"}


def notebooks() -> list[Path]:
    """The notebooks in reading order: the numbered ones, then those that train."""
    return [*sorted(ROOT.glob("notebooks/[0-9]*.ipynb")), *sorted(ROOT.glob("notebooks/training/*.ipynb"))]


def lowered(text: str) -> str:
    """Markdown with every heading one level lower."""
    return re.sub("^#", "##", text, flags=re.MULTILINE)


def markdown(notebook: dict) -> list[dict]:
    """The cells of words, each `source` one string."""
    found = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    for cell in found:
        cell["source"] = "".join(cell["source"])
    return found


def cleaned(path: Path) -> str:
    """A notebook as JSON, without what its execution left in the metadata; what it shows stays.

    Of several titles the first is the page's, and all headings below it are one level lower.
    """
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for holder in (notebook, *notebook["cells"]):
        holder["metadata"].pop("papermill", None)
        holder["metadata"].pop("execution", None)
    words = markdown(notebook)
    if sum(cell["source"].startswith("# ") for cell in words) > 1:
        for cell in words[1:]:
            cell["source"] = lowered(cell["source"])
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def title(path: Path) -> str:
    """The first heading of a notebook."""
    first = markdown(json.loads(path.read_text(encoding="utf-8")))[0]["source"]
    return first.splitlines()[0].lstrip("# ")


def contents() -> str:
    """The table of contents, as Sphinx reads it."""
    pages = {str(path.relative_to(ROOT).with_suffix("")): path for path in notebooks()}
    numbered = [f"{path.name[:2]} {title(path)} <{page}>" for page, path in pages.items() if "training" not in page]
    parts = {
        "Notebooks": numbered,
        "Look": ["leaderboard", "explore", *["realism"] * multi_realism.shipped()],
        "How our models were made": [CARDS, *(page for page in pages if "training" in page)],
        "Reference": ["api", "glossary"],
    }
    return "\n\n".join(
        f"```{{toctree}}\n:maxdepth: 1\n:caption: {caption}\n\n" + "\n".join(names) + "\n```"
        for caption, names in parts.items()
    )


def map_of_notebooks() -> str:
    """README's table of notebooks as a list, which fits a telephone: each question, what it repeats, one finding."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.sub("<!--.*?-->", "", text[text.index("| notebook | question |") :].partition("\n\n")[0])
    found = []
    for line in table.splitlines()[2:]:
        link, question, repeats, finding = (cell.strip() for cell in line.strip("|").split("|"))
        found.append(f"{link}: {question}{f' ({repeats})' * bool(repeats)}\n: {finding}")
    return "\n\n".join(found)


def cards_page() -> str:
    """The cards of our models as one page: below one title, every heading one level lower."""
    text = (ROOT / f"{CARDS}.md").read_text(encoding="utf-8")
    return "# Cards of our models\n\n" + lowered(text)


def published() -> pd.DataFrame:
    """The rows of evidence, of all sets, scales and distortions."""
    files = sorted(ROOT.glob("data/results/evidence_*.csv.gz"))
    rows = pd.concat([results.read(path, mixed=tuple(results.ONE_OF)) for path in files], ignore_index=True)
    return rows[~rows.distortion.str.endswith("_of_mean")]


def place(upscaler: str, heat: float, dataset: str, scale: int, distortion: str) -> tuple:
    """Sorts settings: the default upscaler first, photographs before faces, LPIPS before the other D."""
    sets, kinds = ["evidence_photographs", "evidence_faces", "evidence_ffhq"], list(LABELS)
    order = sets.index(dataset) if dataset in sets else len(sets)
    kind = kinds.index(distortion) if distortion in kinds else len(kinds)
    return (upscaler, heat) != ("embedded_flow", 1.0), upscaler, -float(heat), order, dataset, scale, kind, distortion


def leaderboard_page(table: pd.DataFrame) -> str:
    """The leaderboard in Markdown: one sortable HTML table a setting."""
    text = [
        "# Leaderboard\n",
        "Every downscaler of the published rows: its score, the 95 % interval over photographs, and the ranks that the "
        "photographs leave open (95 % for all downscalers of a table together). A click on a column's head sorts. "
        'All of it as <a href="leaderboard.json">JSON</a>, which documents its columns, or '
        '<a href="leaderboard.csv">CSV</a>. '
        "`python -m helpers.stats.leaderboard ROWS --json FILE` writes the same of your rows.\n",
    ]
    keys = ["upscaler", "heat", "dataset", "scale", "distortion"]
    settings = [(key, part) for key, part in table.groupby(keys, sort=False)]
    for key, part in sorted(settings, key=lambda each: place(*each[0])):
        upscaler, heat, dataset, scale, distortion = key
        name = dataset.removeprefix("evidence_").capitalize()
        text.append(f"\n## {name} x{scale}: {LABELS.get(distortion, distortion)}, {upscaler} at heat {heat:g}\n")
        text.append(f"{part.photographs.max()} images; {part.draws.max() // part.photographs.max()} draws of each.\n")
        bits = bool(part.bits_per_pixel.notna().any())
        lines = [
            f"<tr><td>{html.escape(line.downscaler)}</td><td>{line.score:.4f}</td>"
            f'<td data-value="{line.low:.6f}">{line.low:.4f} to {line.high:.4f}</td><td>{line["rank"]:g}</td>'
            f'<td data-value="{line.rank_low:g}">{line.rank_low:g} to {line.rank_high:g}</td>'
            f"{f'<td>{line.bits_per_pixel:.2f}</td>'.replace('nan', '') * bits}</tr>"
            for _, line in part.iterrows()
        ]
        heads = ["downscaler", "score", "95 % interval", "rank", "ranks left open", *["bits per LR pixel"] * bits]
        head = "".join(f"<th>{name}</th>" for name in heads)
        body = "\n".join(lines)
        whole = f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'
        text.append(f'<div class="wide">{whole}</div>\n')
    return "\n".join(text)


def crops() -> dict[str, Tensor]:
    """`CROPS` as HR images in [0, 1], (1, 3, SIDE, SIDE)."""
    found = {name: datasets.load(str(ROOT / "data" / "images" / "kodak"), name) for name in CROPS}
    return {
        name: found[name][..., top : top + SIDE, left : left + SIDE].contiguous() for name, (top, left) in CROPS.items()
    }


@torch.no_grad()
def explored(folder: Path) -> dict[str, str]:
    """Write HR, LR and draws of each crop, downscaler and scale as PNG; return what is said of each draw, by file."""
    found = {}
    for crop, hr in crops().items():
        write_rgb(hr, folder / f"{crop}.png")
        measure = against("lpips_embedded", hr)
        for scale in EXPLORED["scale"]:
            upscale = UPSCALERS["embedded_flow"](scale=scale)
            for name in EXPLORED["downscaler"]:
                lr = quantize(DOWNSCALERS[name](hr, scale))
                draws = quantize(upscale(lr, [seeded(0, crop, q) for q in range(DRAWS)]))
                write_rgb(lr, folder / f"{crop}_{name}_x{scale}_lr.png")
                for q, draw in enumerate(draws.split(1)):
                    write_rgb(draw, folder / f"{crop}_{name}_x{scale}_{q}.png")
                    found[f"{crop}_{name}_x{scale}_{q}"] = f"embedded LPIPS {measure(draw).item():.3f}"
    return found


def read_at_betas(codec: Codec, folder: Path) -> dict[str, str]:
    """Write each crop as the codec's file of each level, read at each beta, as PNG; return what is said of each."""
    found = {}
    for crop, hr in crops().items():
        write_rgb(hr, folder / f"{crop}.png")
        measures = {name: against(name, hr) for name in ("psnr", "lpips_embedded")}
        for level in REALISM["level"]:
            content = encode(codec, hr, level)
            for beta in REALISM["beta"]:
                sr = quantize(decode(codec, content, beta))
                write_rgb(sr, folder / f"{crop}_level{level}_beta{beta}.png")
                psnr, lpips = (measure(sr).item() for measure in measures.values())
                said = f"{len(content)} bytes, PSNR {psnr:.1f} dB, embedded LPIPS {lpips:.3f}"
                found[f"{crop}_level{level}_beta{beta}"] = said
    return found


def slider_page(
    heading: str, text: str, picks: Mapping[str, Sequence], answer: str, values: Mapping[str, str], below: str = ""
) -> str:
    """A page on which a reader picks, and moves a slider between the original and an answer.

    Args:
        heading, text: what stands above.
        picks: name of a choice -> its values; "image" is the first.
        answer: file of the answer with a "{name}" for each choice, as keys of `values`.
        values: what is said of each answer.
        below: such a file of an LR image, which is shown below; "" shows none.
    """
    chosen = " ".join(
        f'<label>{name} <select id="pick-{name}">'
        + "".join(f'<option value="{value}">{value}</option>' for value in each)
        + "</select></label>"
        for name, each in ({"image": list(CROPS)} | picks).items()
    )
    first = {name: each[0] for name, each in ({"image": list(CROPS)} | picks).items()}

    def picture(name: str, alt: str, file: str) -> str:
        at = f"_static/explore/{file.format(**first)}.png"
        return f'<img id="shown-{name}" class="dark-light" alt="{alt}" data-file="{file}" src="{at}">'

    lr = picture("lr", "the LR image, enlarged by repeating pixels", below)
    under = f'<div class="slider">\n{lr}\n</div>\n' * bool(below)
    words = "uncover the answer: left of the handle the original, right of it the answer"
    return f"""# {heading}

{text}

```{{raw}} html
<p>{chosen}</p>
<div class="slider" style="--part:50%">
<div class="pictures">
{picture("hr", "the original crop", "{image}")}
{picture("draw", "the answer over the original", answer)}
</div>
<input type="range" min="0" max="100" value="50" aria-label="{words}">
<div class="names"><span>original</span><span>answer</span></div>
<div class="said" id="shown-value" data-key="{answer}"></div>
</div>
{under}<script id="values" type="application/json">{json.dumps(dict(values), sort_keys=True)}</script>
<script src="_static/explore.js"></script>
```

Without a script, side by side: the original and the first answer.

![The original crop](_static/explore/{first["image"]}.png)
![The first answer](_static/explore/{answer.format(**first)}.png)
"""


def explore_page(values: Mapping[str, str]) -> str:
    """The page of draws of the embedded flow."""
    text = f"""Crops of {SIDE}x{SIDE} pixels of three Kodak photographs through the measure: pick one, a downscaler and
a scale. The slider uncovers a draw of the embedded flow over the original; below it the LR image, enlarged without
smoothing."""
    stem = "{image}_{downscaler}_x{scale}"
    picks = EXPLORED | {"draw": list(range(DRAWS))}
    return slider_page("Explore", text, picks, f"{stem}_{{draw}}", values, f"{stem}_lr")


def realism_page(values: Mapping[str, str]) -> str:
    """The page of the Multi-Realism codec."""
    text = f"""Crops of {SIDE}x{SIDE} pixels of three Kodak photographs as files of the small Multi-Realism codec,
without downscaling. A level is a file; beta is chosen by whoever reads it, from 0, the smallest squared error, to
{HIGHEST:g}, the most realism, and the bytes stay the same."""
    answer = "{image}_level{level}_beta{beta}"
    return slider_page("One file, from low distortion to realism", text, REALISM, answer, values)


def stage(source: Path) -> None:
    """Lay out all that Sphinx reads in an empty folder."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(BOOK, source, ignore=shutil.ignore_patterns("_build", "__pycache__"))
    for path in notebooks():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(cleaned(path), encoding="utf-8")
    shutil.copytree(ROOT / "figures", source / "figures", ignore=shutil.ignore_patterns("*.pdf"))
    index = (BOOK / "index.md").read_text(encoding="utf-8")
    index = index.replace("{notebooks}", map_of_notebooks()).replace("{contents}", contents())
    index = index.replace("](../figures/", "](figures/")
    (source / "index.md").write_text(index, encoding="utf-8")
    (source / CARDS).parent.mkdir(parents=True)
    (source / f"{CARDS}.md").write_text(cards_page(), encoding="utf-8")
    table = leaderboard.table(published())
    (source / "leaderboard.md").write_text(leaderboard_page(table), encoding="utf-8")
    (source / "downloads").mkdir()
    (source / "downloads" / "leaderboard.json").write_text(leaderboard.as_json(table), encoding="utf-8")
    table.to_csv(source / "downloads" / "leaderboard.csv", index=False, float_format="%.6g", lineterminator="\n")
    (pictures := source / "_static" / "explore").mkdir(parents=True)
    (source / "explore.md").write_text(explore_page(explored(pictures)), encoding="utf-8")
    if multi_realism.shipped():
        said = read_at_betas(multi_realism.load(), pictures)
        (source / "realism.md").write_text(realism_page(said), encoding="utf-8")


def mathjax() -> Path:
    """The one file of MathJax, which the extra brings; SystemExit without it."""
    found = importlib.util.find_spec(MATHJAX)
    if found is None or importlib.util.find_spec("sphinx") is None:
        raise SystemExit('tools.book: Sphinx and MathJax are missing: pip install -e ".[book]"')
    [path] = Path(found.origin).parent.rglob("tex-svg.js")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """The command of this file."""
    parser = argparse.ArgumentParser(prog="python -m tools.book", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=BUILD / "html", help="folder of the pages")
    output = parser.parse_args(arguments).output
    script = mathjax()
    torch.set_num_threads(1)
    source = BUILD / "source"
    stage(source)
    shutil.copy(script, source / "_static" / "tex-svg.js")
    shutil.rmtree(output, ignore_errors=True)
    from sphinx.cmd.build import build_main  # of an extra; in this process, where what the API's pages show is loaded

    os.environ["SOURCE_DATE_EPOCH"] = "0"
    asked = ["-W", "--keep-going", "-q", "-d", str(BUILD / "doctrees"), "-E", "-b", "html", str(source), str(output)]
    if failed := build_main(asked):
        raise SystemExit(failed)
    shutil.rmtree(output / ".doctrees", ignore_errors=True)
    print(f"{output / 'index.html'}: {sum(1 for _ in output.rglob('*.html'))} pages")


if __name__ == "__main__":
    main()
