"""The notebook of the generator, run small: it trains for a moment, writes one, and reports on the shipped one."""

from safetensors.torch import load_file

from tests.notebook import printed, run

NAME = "training/style_generator"
TINY = {
    "stages": [[8, 64, 0.3], [16, 256, 0.5]], "fmap_base": 16, "fmap_max": 8, "style_size": 8, "mapping_layers": 2,
    "batch": 8, "fade": 32, "n_samples": 2, "n_images": 2, "steps": 5, "downscalers": ["nearest", "bicubic"],
    "device": "cpu", "seconds": 300.0,
}  # fmt: skip


def test_it_trains_and_reports_on_the_shipped_generator(tmp_path):
    own = {"results_dir": str(tmp_path / "rows"), "output": str(tmp_path / "mine.safetensors")}
    text = printed(run(NAME, tmp_path, TINY, **own))
    assert load_file(tmp_path / "mine.safetensors")["synthesis.torgb.weight"].shape == (3, 2, 1, 1)
    assert "samples of the shipped generator, as a demonstration" in text and "from the card" in text
    assert len(list((tmp_path / "figures").glob("*.pdf"))) == 3
