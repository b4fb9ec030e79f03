"""Plot whose information an LR image holds: private against public loss, what damage leaves, what learning buys."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.figures import look, size
from helpers.stats.findings import Quantity

_ARM = {"lw": 0.9, "zorder": 1}


def scatter(ax: Axes, table: pd.DataFrame) -> None:
    """Loss by the own decoder against loss by the public, with both intervals; the diagonal is "no secret".

    Args:
        ax: where to draw.
        table: of `private_channels.gaps`; downscalers without a decoder are hollow and lie on the diagonal.
    """
    ends = [end for column in ("public", "private") for each in table[column] for end in (each.low, each.high)]
    most = 1.06 * np.nanmax(ends)
    ax.plot([0, most], [0, most], color="0.8", lw=0.8, zorder=0)
    for line in table.itertuples():
        style = look(line.downscaler)
        x, y = line.private, line.public
        if line.own:
            ax.plot([x.low, x.high], [y.value] * 2, color=style["color"], **_ARM)
        ax.plot([x.value] * 2, [y.low, y.high], color=style["color"], **_ARM)
        face = style["color"] if line.own else "white"
        ax.plot(x.value, y.value, **style, ls="none", mfc=face, ms=7 if line.own else 4.5, label=line.downscaler)
    ax.set(
        xlim=(0, most), ylim=(0, most), aspect="equal", xlabel="loss by the own decoder", ylabel="loss by the public"
    )


def spectrum(ax: Axes, rings: pd.DataFrame) -> None:
    """Power of LR minus bicubic LR against frequency, and that of the bicubic LR image; means over photographs."""
    for name, part in rings.groupby("downscaler", sort=False):
        mean = part.groupby("frequency").power.mean()
        ax.plot(mean.index, mean * 255**2, **_line(name), label=name)
    plain = rings.drop_duplicates(["photograph", "frequency"]).groupby("frequency").bicubic.mean()
    ax.plot(plain.index, plain * 255**2, color="0.6", ls=":", label="the bicubic LR image")
    ax.axhline(1 / 12, color="0.8", lw=0.8, zorder=0)
    ax.annotate(
        "rounding to 8 bits", (0.02, 1 / 12), xytext=(0, 2), textcoords="offset points", fontsize=6, color="0.5"
    )
    ax.set(yscale="log", xlabel="cycles per LR pixel", ylabel="power (grey levels squared)", xlim=(0, 0.5))
    ax.minorticks_off()


def against_level(
    ax: Axes, tables: Mapping[str, pd.DataFrame], damages: Mapping[str, str], *, factor: float = 1, log: bool = False
) -> None:
    """Private advantage in dB against the level of damages, a line each rescaler; the level without damage at the left.

    Args:
        ax: where to draw.
        tables: rescaler -> `private_channels.advantages`.
        damages: name of a degradation -> style of its line.
        factor: of the level in the axis.
        log: draw a logarithmic axis.
    """
    for name, table in tables.items():
        for damage, style in damages.items():
            part = table[table.degradation == damage].sort_values("level")
            x = factor * part.level.to_numpy()
            _band(ax, x, part.advantage, _line(name) | {"ls": style})
        plain = table[table.degradation == ""].advantage.iloc[0]
        ax.axhline(plain.value, color=look(name)["color"], lw=0.5, ls=":")
    ax.axhline(0, color="0.6", lw=0.7)
    if log:
        ax.set_xscale("log", base=2)
        ax.set_xticks(x, [f"{each:g}" for each in x])
        ax.minorticks_off()


def fragility(tables: Mapping[int, Mapping[str, pd.DataFrame]], ways: Mapping[str, tuple[str, float]]) -> Figure:
    """Private advantage in dB under noise, under JPEG and after some ways: a line of panels for each scale.

    Args:
        tables: scale -> rescaler -> `private_channels.advantages`.
        ways: see `of_ways`.
    """
    fig, axes = plt.subplots(len(tables), 3, figsize=size(2, 0.36 * len(tables)), layout="constrained", squeeze=False)
    for (left, middle, right), (scale, by_f) in zip(axes, tables.items(), strict=True):
        against_level(left, by_f, {"noise": "-"}, factor=255, log=True)
        against_level(middle, by_f, {"jpeg": "-", "jpeg_444": "--"})
        of_ways(right, by_f, ways)
        left.set(title=f"x{scale}, noise", xlabel="grey levels", ylabel="private advantage (dB)")
        middle.set(title=f"x{scale}, JPEG (dashes: 4:4:4)", xlabel="quality")
        right.set(title=f"x{scale}, other ways")
        middle.sharey(left)
    axes[0, 2].legend(fontsize=6, frameon=False)
    return fig


def parts(ax: Axes, split: pd.DataFrame, private: pd.Series) -> None:
    """Squared error of the public as bars of bias and spread, and of own decoders as dots, times 1000.

    Args:
        ax: where to draw.
        split: of `decomposition.split`.
        private: downscaler -> mean squared error of its own decoder.
    """
    bias, spread = 1000 * split.bias, 1000 * split.spread
    ax.barh(split.downscaler, bias, color="0.35", height=0.7, label="public, bias")
    ax.barh(split.downscaler, spread, left=bias, color="0.75", height=0.7, label="public, spread")
    ax.plot(1000 * private, private.index, "o", color="C3", ms=4, label="own decoder")
    ax.invert_yaxis()


def of_ways(ax: Axes, tables: Mapping[str, pd.DataFrame], ways: Mapping[str, tuple[str, float]]) -> None:
    """Private advantage in dB after each of some ways, a mark each rescaler.

    Args:
        ax: where to draw.
        tables: rescaler -> `private_channels.advantages`.
        ways: label -> name and level of a degradation, ("", 0.0) is none; from top to bottom.
    """
    for k, (name, table) in enumerate(tables.items()):
        places = table.set_index(["degradation", "level"]).advantage
        for place, way in enumerate(ways.values()):
            found, y = places[way], place + 0.5 * ((k + 0.5) / len(tables) - 0.5)
            ax.plot([found.low, found.high], [y, y], color=look(name)["color"], **_ARM)
            ax.plot(found.value, y, **look(name), ls="none", label=name if place == 0 else None)
    ax.axvline(0, color="0.6", lw=0.7)
    ax.set_yticks(range(len(ways)), list(ways))
    ax.set(ylim=(len(ways) - 0.5, -0.5), xlabel="private advantage (dB)")


def learning(ax: Axes, curves: Mapping[str, Mapping[int, Quantity]], ends: Mapping[str, float]) -> None:
    """PSNR of students against the number of pairs they learnt from, and of the own decoder as a dashed line.

    Args:
        ax: where to draw.
        curves: downscaler -> number of pairs -> PSNR; 0 pairs is bicubic enlargement, drawn at 1.
        ends: downscaler -> PSNR of its own decoder.
    """
    for name, curve in curves.items():
        ax.plot(np.maximum(list(curve), 1), [each.value for each in curve.values()], **_line(name), label=name)
        if name in ends:
            ax.axhline(ends[name], color=look(name)["color"], lw=0.8, ls="--")
    ticks = list(next(iter(curves.values())))
    ax.set_xscale("log", base=2)
    ax.set_xticks(np.maximum(ticks, 1), [f"{n:g}" for n in ticks])
    ax.minorticks_off()


def _band(ax: Axes, x: Sequence[float], values: Sequence[Quantity], style: dict) -> None:
    ax.plot(x, [each.value for each in values], **style)
    ax.fill_between(x, [each.low for each in values], [each.high for each in values], color=style["color"], alpha=0.15,
                    lw=0)  # fmt: skip


def _line(name: str) -> dict:
    return look(name) | {"ms": 3.5}
