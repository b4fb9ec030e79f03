"""Plot what notebook 02 shows: LR images, responses to gratings, spectra, file sizes, shifts, scores."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from helpers import figures
from helpers.figures.rankings import set_names
from helpers.stats import findings
from helpers.studies import kept


def gallery(hr: Tensor, small: Mapping[str, Tensor], difference: Mapping[str, Tensor], columns: int = 5) -> Figure:
    """Pairs of pictures: an LR image and, below it, its signed difference to another, with its mean absolute value.

    Args:
        hr: the part of the HR image that is shown, (1, 3, H, W).
        small: name -> the same part of the LR image.
        difference: name -> difference in grey levels of that part, (h, w).
        columns: pairs in a line.
    """
    lines = -(-(len(small) + 1) // columns)
    width, _ = figures.size(2)
    fig, axes = plt.subplots(
        2 * lines,
        columns,
        figsize=(width, 2 * lines * (width / columns + 0.17) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for ax in axes.flat:
        ax.set_axis_off()
    axes[0, 0].imshow(figures.to_pixels(hr))
    axes[0, 0].set_title("HR image", pad=2)
    for k, (name, lr) in enumerate(small.items(), start=1):
        above, below = (axes[2 * (k // columns) + row, k % columns] for row in (0, 1))
        above.imshow(figures.to_pixels(lr))
        above.set_title(name.replace("_", " "), pad=2)
        shown = below.imshow(difference[name], cmap="RdBu_r", vmin=-40, vmax=40)
        below.set_title(f"mean {difference[name].abs().mean():.1f}", fontsize=7, pad=2)
    bar = fig.colorbar(shown, ax=axes, orientation="horizontal", extend="both", fraction=0.03, aspect=50, pad=0.01)
    bar.set_label("LR image \N{MINUS SIGN} bicubic LR image (of 255)")
    return fig


def response(found: kept.Passes, scale: int, amplitudes: Sequence[float], alike: float = 0.03) -> Figure:
    """|H| against frequency: filters on the left, each curve once, the others on the right at each amplitude."""
    linear, middle, drawn = kept.linear(found), len(amplitudes) // 2, []
    for name in linear.index[linear]:
        curve = found.curves[name][middle]
        if all(np.abs(curve - found.curves[other][middle]).max() > alike for other in drawn):
            drawn.append(name)
    fig, (ax, right) = plt.subplots(1, 2, figsize=figures.size(2, 0.46), sharey=True, layout="constrained")
    x = kept.FREQUENCIES * scale
    for name in drawn:
        style = {"color": figures.look(name)["color"], "ls": "--" if name.startswith("torch") else "-"}
        ax.plot(x, found.curves[name][middle], **style, label=name.replace("_", " "))
    for name in linear.index[~linear]:
        for k, curve in enumerate(found.curves[name]):  # the stronger the grating, the thicker the line
            style = {"color": figures.look(name)["color"], "lw": 0.6 + 0.7 * k, "alpha": 0.8}
            right.plot(x, curve, label=name.replace("_", " ") if k == middle else None, **style)
    strengths = ", ".join(map(str, amplitudes))
    top = 1.18 * max(curve.max() for curves in found.curves.values() for curve in curves)
    for panel, title in ((ax, "filters"), (right, f"no filters; thin to thick: amplitude {strengths}")):
        panel.axvline(0.5, color="0.35", lw=0.8)
        panel.set(title=title, xlabel="frequency (cycles per LR pixel)", ylim=(0, top))
        panel.text(0.46, 0.97 * top, "kept", ha="right", va="top")
        panel.text(0.54, 0.97 * top, "folds back", ha="left", va="top")
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    ax.set_ylabel("amplitude out / in, |H|")
    return fig


def spectra(rings: pd.DataFrame, names: Sequence[str], photograph: Mapping[str, str]) -> Figure:
    """Power against that of the band-limited picture, and the foreign share of it, along the LR band."""
    rings = rings.assign(ratio_db=10 * np.log10(rings.ratio), foreign=100 * rings.foreign)
    fig, axes = plt.subplots(1, 2, figsize=figures.size(2, 0.44), layout="constrained")
    for ax, column, label in zip(
        axes, ("ratio_db", "foreign"), ("power / ideal (dB)", "foreign share of it (%)"), strict=True
    ):
        for name in names:
            part = rings[rings.downscaler == name]
            band = pd.DataFrame(
                [findings.mean(kept.units(ring, column, photograph)[name]) for _, ring in part.groupby("frequency")],
                index=sorted(part.frequency.unique()),
            )
            style = figures.look(name)
            ax.plot(band.index, band.value, **style, ms=3.5, label=name)
            ax.fill_between(band.index, band.low, band.high, color=style["color"], alpha=0.15, lw=0)
        ax.set(xlabel="frequency (cycles per LR pixel)", ylabel=label)
    axes[0].axhline(0, color="0.35", lw=0.8)
    title = f"means and 95 % intervals, {len(set(photograph.values()))} photographs"
    fig.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(names), frameon=False, title=title
    )
    return fig


def ratios(values: pd.DataFrame, label: str, at: float = 1.0) -> Figure:
    """A mark and its interval for each column, sorted.

    Args:
        values: photographs x downscalers.
        label: of the axis, without the interval.
        at: where a line is drawn.
    """
    values = values[values.mean().sort_values().index]
    fig, ax = plt.subplots(figsize=figures.size(1, 0.3 + 0.045 * values.shape[1]), layout="constrained")
    for place, (name, found) in enumerate(kept.quantities(values).items()):
        ax.plot([found.low, found.high], [place, place], color=figures.look(name)["color"])
        ax.plot(found.value, place, **figures.look(name), ls="none")
    ax.axvline(at, color="0.35", lw=0.8, zorder=0)
    set_names(ax, [name.replace("_", " ") for name in values])
    ax.set_xlabel(f"{label}\n95 % interval, {len(values)} photographs, paired")
    ax.grid(axis="x", color="0.85")
    return fig


def shift(formula: Tensor, script: Tensor, table: pd.DataFrame, photograph: Mapping[str, str]) -> Figure:
    """DPID by its formula and by its authors' script, their difference, and how far the picture moves.

    Args:
        formula, script: the same part of the two LR images, (1, 3, h, w).
        table: of `kept.shifts`.
        photograph: image -> photograph.
    """
    fig, axes = plt.subplots(1, 4, figsize=figures.size(2, 0.26), width_ratios=[1, 1, 1.15, 1.4], layout="constrained")
    for ax, lr, title in zip(axes, (formula, script), ("by the formula", "by the script"), strict=False):
        ax.imshow(figures.to_pixels(lr))
        ax.set_title(title)
    bar = axes[2].imshow(255 * (script - formula)[0].mean(0), cmap="RdBu_r", vmin=-25, vmax=25)
    axes[2].set_title("difference")
    fig.colorbar(bar, ax=axes[2], extend="both", fraction=0.05, aspect=15, pad=0.02).set_label("of 255", fontsize=7)
    for ax in axes[:3]:
        ax.set_axis_off()
    used = sorted(table.scale.unique())
    axes[3].plot(used, [(s - 1) / 6 for s in used], color="0.35", label="(s \N{MINUS SIGN} 1) / 6")
    for k, (lam, marker) in enumerate(zip(sorted(table.lam.unique()), "ovs", strict=False)):
        parts = [table[(table.scale == s) & (table.lam == lam)] for s in used]
        means = [findings.mean(kept.units(part, "down", photograph, "lam")[lam]) for part in parts]
        ends = np.nan_to_num([[m.value - m.low for m in means], [m.high - m.value for m in means]])
        at = np.array(used) + 0.15 * (k - 1)  # so that they do not hide each other
        axes[3].errorbar(at, [m.value for m in means], ends, marker=marker, ms=3, ls="none", label=f"lambda {lam:g}")
    axes[3].set(xlabel="scaling factor s", ylabel="moved down\n(HR pixels)", xticks=used, ylim=(0, None))
    axes[3].legend(frameon=False, loc="upper left", handlelength=1, borderpad=0, labelspacing=0.3)
    return fig


def scores(
    table: pd.DataFrame, score: pd.DataFrame, rho: pd.DataFrame, photograph: Mapping[str, str], label: str
) -> Figure:
    """Score against three properties of the LR image, means and intervals over photographs.

    Args:
        table: of `kept.facts`.
        score: photographs x downscalers.
        rho: of `kept.rhos`.
        photograph: image -> photograph.
        label: what D is called.
    """
    fig, axes = plt.subplots(1, 3, figsize=figures.size(2, 0.42), sharey=True, layout="constrained")
    for ax, column in zip(axes, ("power_db", "difference", "enlarged"), strict=True):
        values = kept.units(table[table.downscaler.isin(list(score))], column, photograph)
        if column == "enlarged":  # photographs differ by far more than downscalers
            values = values.sub(values.mean(axis=1), axis=0)
        for name in score:
            x, y = findings.mean(values[name]), findings.mean(score[name])
            ends = [np.nan_to_num([[q.value - q.low], [q.high - q.value]]) for q in (x, y)]
            ax.errorbar(x.value, y.value, ends[1], ends[0], **figures.look(name), lw=0.8, ls="none", label=name)
        ax.set_title(f"rho = {findings.mean(rho[column].dropna()).value:.2f}", fontsize=7)
        unit = {"power_db": "power in the upper half\nband (dB)", "difference": "|difference| to bicubic\n(levels)"}
        ax.set_xlabel(unit.get(column, "PSNR after enlargement,\nagainst the methods' mean (dB)"))
    axes[0].set_ylabel(f"IDA-RD, {label},\nlower is better")
    title = f"means and 95 % intervals, {len(score)} photographs"
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, title=title)
    return fig
