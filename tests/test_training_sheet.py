"""The picture sheet of a training: the same crops, the same latents, at most one line a pace."""

import torch

from helpers.images import quantize
from helpers.runtime import seeded
from helpers.training import flow
from helpers.training.sheet import Sheet
from tests.test_training_flow import FAST, network_of_tests, photographs, validation


def crops(n: int = 6) -> torch.Tensor:
    return torch.rand(n, 3, 4, 4, generator=seeded("crops"))


def test_a_training_draws_the_same_crops_once_the_flow_is_trained(tmp_path):
    pairs, sheet = photographs(), Sheet(tmp_path / "sheet", crops(), pace=0.0)
    assert sheet.read() == {}
    trained = flow.train_flow(
        network_of_tests(), pairs, validation(pairs), tmp_path / "run.pt", sheet=sheet, **FAST | {"mean_iterations": 4}
    )
    drawn = sheet.read()
    assert list(drawn) == [6, 9, 10]  # not 3: the flow is still as it was
    assert all([image.shape for image in images] == [(1, 3, 8, 8)] * 6 for images in drawn.values())
    best = [quantize(image) for image in sheet.draw(trained)]  # one of the checkpoints
    assert any(all(map(torch.equal, best, images)) for images in drawn.values())
    assert not all(map(torch.equal, drawn[6], drawn[10]))


def test_its_draws_change_no_weight(tmp_path):
    pairs = photographs()
    for name, sheet in (("with", Sheet(tmp_path / "sheet", crops(), pace=0.0)), ("without", None)):
        flow.train_flow(network_of_tests(), pairs, validation(pairs), tmp_path / f"{name}.pt", sheet=sheet, **FAST)
    one, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True)["average"] for name in ("with", "without"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_line_waits_for_its_pace_and_what_is_not_finite_is_black(tmp_path):
    network = network_of_tests().eval()
    sheet = Sheet(tmp_path, crops(2))
    sheet.add(network, 500)
    sheet.add(network, 1000)  # within the hour
    assert list(sheet.read()) == [500]
    assert all(map(torch.equal, Sheet(tmp_path, crops(2)).draw(network), sheet.draw(network)))
    network.encoder.first.weight.data.fill_(torch.nan)
    Sheet(tmp_path, crops(2)).add(network, 1500)  # the first of another call
    assert [image.max().item() for image in sheet.read()[1500]] == [0, 0]
