"""Plot what the training notebooks show: curves of the shipped networks, and what their cards say."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from helpers.figures import size


def twins(curves: Mapping[str, pd.DataFrame], shares: Mapping[str, list[float]]) -> Figure:
    """PSNR of the mean image and loss of the denoiser along the training, and the error left along the chain.

    Args:
        curves: by network, columns iteration, psnr_mean (dB) and validation.
        shares: by network, error along the chain over that of an untrained guess.
    """
    fig, axes = plt.subplots(1, 3, figsize=size(2, 0.3))
    for name, curve in curves.items():
        for ax, column in zip(axes, ("psnr_mean", "validation"), strict=False):
            ax.plot(curve.iteration / 1000, curve[column], label=name)
            ax.set_xlabel("steps (thousands)")
        left = shares[name]
        axes[2].plot([k / (len(left) - 1) for k in range(len(left))], left, "o-", ms=3)
    axes[0].set(ylabel="mean image, PSNR (dB)")
    axes[1].set(ylabel="held-out loss of the denoiser")
    axes[2].set(xlabel="place in the chain, 0 is the answer", ylabel="error left", ylim=(0, 1.05))
    axes[0].legend(frameon=False, fontsize=6)
    return fig


def rescalers(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """PSNR of the own decoder and of the LR image along the training.

    Args:
        curves: by network, columns iteration, psnr_y and lr_psnr (dB).
    """
    fig, axes = plt.subplots(1, 2, figsize=size(2, 0.32))
    for name, curve in curves.items():
        for ax, column in zip(axes, ("psnr_y", "lr_psnr"), strict=True):
            ax.plot(curve.iteration / 1000, curve[column], label=name)
    axes[0].set(xlabel="steps (thousands)", ylabel="own decoder, PSNR Y (dB)")
    axes[1].set(xlabel="steps (thousands)", ylabel="LR image to bicubic, PSNR (dB)")
    axes[0].legend(frameon=False, fontsize=6)
    return fig


def after_jpeg(table: pd.DataFrame) -> Figure:
    """PSNR against the JPEG quality of the LR image, a line for each of three rescalers.

    Args:
        table: of `rescaler_findings.after_jpeg`.
    """
    fig, ax = plt.subplots(figsize=size(1, 0.7))
    for name, style in zip(table, ("-", "--", ":"), strict=True):
        ax.plot(table.index, table[name], style, marker="o", markersize=3, label=name)
    ax.set(xlabel="JPEG quality of the LR image", ylabel="PSNR Y (dB, higher is better)")
    ax.legend(frameon=False)
    return fig


def flow(likelihood: pd.DataFrame, second: pd.DataFrame) -> Figure:
    """Left the likelihood along the training, right the terms of the second stage as shares of their first values.

    Args:
        likelihood: columns iteration, train and validation (bits per dimension).
        second: columns iteration, score, middle and validation; without a score the right panel is not drawn.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=size(2, 0.3))
    left.plot(likelihood.iteration / 1000, likelihood.train, label="training patches")
    left.plot(likelihood.iteration / 1000, likelihood.validation, "--", label="held-out photographs")
    left.set(xlabel="iterations (thousands)", ylabel="bits per dimension", title="likelihood")
    left.legend(frameon=False)
    labels = {"score": "score", "middle": "error at heat 0", "validation": "bits per dimension"}
    for (term, label), style in zip(labels.items(), ("-", "--", ":"), strict=True):
        if "score" in second:
            right.plot(second.iteration, second[term] / second[term].iloc[0], style, label=label)
            right.legend(frameon=False, loc="lower left")
    right.set(xlabel="iterations", ylabel="share of the first value", title="second stage")
    right.set_visible("score" in second)
    return fig


def metric(curve: pd.DataFrame, retrained: int) -> Figure:
    """Left the error of the features of a learned distance along the training, right its validation losses.

    Args:
        curve: columns iteration, features, maps, taps, total and order; the last four NaN while features are learnt.
        retrained: the step, of which there is a dotted line, after which the groups were others.
    """
    fig, axes = plt.subplots(1, 2, figsize=size(2, 0.3))
    axes[0].plot(curve.iteration / 1000, curve.features / 5, color="C4")
    axes[0].set(xlabel="steps (thousands)", ylabel="error of features", ylim=(0, None))
    of_pairs = curve[curve.total.notna()]
    for part, label in {"maps": "maps", "taps": "means of maps", "total": "D", "order": "gaps"}.items():
        axes[1].plot(of_pairs.iteration / 1000, of_pairs[part], label=label)
    axes[1].set(xlabel="steps (thousands)", ylabel="validation loss", ylim=(0, None))
    for ax in axes:
        ax.axvline(retrained / 1000, color="0.6", linestyle=":", linewidth=0.8)
    axes[1].legend(framealpha=1, edgecolor="none", ncols=2)
    return fig


def pairs(table: pd.DataFrame) -> Figure:
    """The learned distance of pairs of images against LPIPS, a colour for each kind of pair.

    Args:
        table: columns kind, lpips and lpips_embedded; a line a pair.
    """
    fig, ax = plt.subplots(figsize=size(1, 0.9))
    for kind, some in table.groupby("kind", sort=False):
        ax.plot(some.lpips, some.lpips_embedded, ".", markersize=3, label=kind)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8)
    ax.set(xlabel="LPIPS-Alex (lower is better)", ylabel="lpips_embedded (lower is better)")
    ax.legend(frameon=False)
    return fig
