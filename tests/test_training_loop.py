"""The loop of all trainings, on a line fitted to two points, and the export of what was trained."""

import csv
import math
from copy import deepcopy

import pytest
import torch
from safetensors import safe_open
from torch import nn

from helpers.runtime import seeded
from helpers.training import loop


def fit(checkpoint, *, goal=3.0, bad=None, iterations=20, prepared=None, **options):
    """Fit w x to goal x with noise; the criterion is best after 8 iterations, and none before 4."""
    line = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(line.weight)
    state = {
        "line": line,
        "average": deepcopy(line),
        "generator": seeded("fit"),
        "sgd": torch.optim.SGD(line.parameters()),
    }
    rates = {}

    def prepare(iteration):
        prepared is not None and prepared.append(iteration)
        rates["now"] = 0.1 if iteration < 10 else 0.05

    def step(iteration):
        x = torch.randn(8, 1, generator=state["generator"])
        loss = (line(x) - goal * x).square().mean() * (math.nan if iteration == bad else 1)
        state["sgd"].param_groups[0]["lr"] = rates["now"]
        state["sgd"].zero_grad()
        loss.backward()
        state["sgd"].step()
        loop.follow(state["average"], line, 0.5)
        return torch.stack([loss, line.weight[0, 0]]).detach()

    def validate(done):
        value = float(abs(done - 8)) if done >= 4 else math.nan
        return {"error": state["average"].weight.item() - goal}, value

    options = {"saves": range(2, 100, 2), "losses": ("loss", "weight"), "progress": False} | options
    best = loop.train(step, validate, state, checkpoint, iterations=iterations, prepare=prepare, **options)
    return best, state


def test_the_best_is_kept_and_the_curve_has_every_column(tmp_path):
    best, state = fit(tmp_path / "new" / "a.pt")
    with open(tmp_path / "new" / "a.csv") as file:
        curve = list(csv.DictReader(file))
    assert list(curve[0]) == ["iteration", "seconds", "loss", "weight", "error"]
    assert [int(row["iteration"]) for row in curve] == list(range(2, 21, 2))
    assert best["weight"].item() - 3 == float(curve[3]["error"]) != state["average"].weight.item() - 3
    assert float(curve[-1]["loss"]) < 0.1 * float(curve[0]["loss"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.csv", "a.pt"]


def test_no_candidate_no_best(tmp_path):
    assert fit(tmp_path / "a.pt", iterations=3)[0] is None


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    whole, state = fit(tmp_path / "whole.pt")
    calls = []
    for _ in range(20):  # no time at all: one iteration a call
        before = len(calls)
        best, broken = fit(tmp_path / "broken.pt", seconds=0.0, prepared=calls)
        assert calls[before:] == ([len(calls[before:]) - 1] if before == 0 else [calls[-1] - 1, calls[-1]])
    assert torch.equal(best["weight"], whole["weight"])
    assert torch.equal(broken["line"].weight, state["line"].weight)
    longer, _ = fit(tmp_path / "broken.pt", iterations=22)
    assert torch.load(tmp_path / "broken.pt", weights_only=True)["iteration"] == 22
    assert torch.equal(longer["weight"], whole["weight"])


def test_a_loss_that_is_not_finite_names_its_iteration_and_spoils_nothing(tmp_path):
    with pytest.raises(FloatingPointError, match=r"loss is \[nan, .*\] at iteration 5; the last checkpoint is whole"):
        fit(tmp_path / "a.pt", bad=5)
    assert torch.load(tmp_path / "a.pt", weights_only=True)["iteration"] == 4


def test_a_run_cannot_change_its_facts(tmp_path):
    fit(tmp_path / "a.pt", iterations=2, facts={"width": [1, 2]})
    fit(tmp_path / "a.pt", iterations=4, facts={"width": [1, 2]})
    with pytest.raises(ValueError, match=r"width: expected \[1, 2\], as in .*a.pt, got \[1, 3\]"):
        fit(tmp_path / "a.pt", facts={"width": [1, 3]})


def test_learning_rate_rises_stays_and_falls():
    rates = [loop.learning_rate(i, 1000, peak=1.0) for i in range(1000)]
    assert rates[0] == pytest.approx(0.01) and rates[99] == 1.0
    assert set(rates[99:700]) == {1.0}
    assert rates[-1] == pytest.approx(0.01, abs=1e-3) and sorted(rates[700:], reverse=True) == rates[700:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_export_keeps_the_precision_and_the_facts(tmp_path, dtype):
    tensors = {"weight": torch.rand(2, 3).T, "count": torch.tensor([7])}
    loop.export(tensors, tmp_path / "a.safetensors", dtype=dtype, widths=[4, 6], photographs=3)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"widths": "[4, 6]", "photographs": "3"}
        assert torch.equal(file.get_tensor("weight"), tensors["weight"].to(dtype))
        assert torch.equal(file.get_tensor("count"), tensors["count"])
