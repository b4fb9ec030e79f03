"""The notebook of the embedded distance, run small: from its card alone, and with the teacher where it is."""

from tests.notebook import printed, run, up_to

NAME = "training/compact_lpips"
TINY = {
    "widths": [8, 8, 8, 8, 8], "n_small": 16, "n_validation": 4, "feature_iterations": 2, "iterations": 2, "every": 2,
    "n_images": 1, "n_ranked": 1, "n_samples": 1, "device": "cpu", "seconds": 300.0,
}  # fmt: skip


def test_without_the_teacher_it_says_so_and_reads_the_card(tmp_path, monkeypatch):
    for name in ("IDA_RD_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("IDA_RD_OFFLINE", "1")
    monkeypatch.delenv("IDA_RD_WEIGHTS", raising=False)
    text = printed(run(NAME, tmp_path, TINY))
    assert "alexnet" in text and "no training without the teacher" in text
    assert "the ranking is" in text and len(list((tmp_path / "figures").glob("*.pdf"))) == 3
    assert not (tmp_path / "training" / "state.csv").exists()


def test_with_the_teacher_it_trains_and_reports(tmp_path, monkeypatch, shared):
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(shared / "data" / "weights"))
    own = {"output": str(tmp_path / "mine.safetensors"), "calibration": str(shared / "data" / "metric_calibration")}
    _, text = up_to(NAME, "", tmp_path, TINY, side=64, **own)
    assert "teacher: lpips-alex" in text and "1 crops: the ranking is" in text
    assert (tmp_path / "mine.safetensors").stat().st_size > 1000
    assert (tmp_path / "training" / "state.csv").read_text().count("\n") == 3
    assert list((tmp_path / "rows").glob("*.csv"))
