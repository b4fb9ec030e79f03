"""Published readings of faces, and answers beside their controls."""

import pandas as pd
import pytest

from helpers.stats import findings
from helpers.studies import face_findings, face_groups


def test_published_readings_come_with_labels_or_not_at_all(monkeypatch):
    names = ["utkface_26_0_2_20170116", "utkface_50_1_0_20170117"]
    rows = pd.DataFrame([
        {"image": name, "upscaler": f_us, "scale": scale, "distortion": d, "value": 1.0}
        for name in names for f_us in ("none", "search", "flow") for scale in (4, 8)
        for d in ("seen_as race=White", "mse")
    ])  # fmt: skip
    monkeypatch.setattr(face_findings.results, "read", lambda path: rows)
    read, labels = face_findings.published(__file__, ["search", "flow"], 8)
    assert len(read) == 6 and set(read.distortion) == {"seen_as race=White"} and set(read.scale) == {8}
    assert list(labels.race) == ["Asian", "White"]
    assert not len(face_findings.published(__file__, ["another"], 8)[0])
    read, labels = face_findings.published("nowhere.csv.gz", ["search"], 8)
    assert not len(read) and labels is None


def test_answers_are_held_against_every_control_that_was_read():
    table = pd.DataFrame({"PULSE": 30 * [1.0] + [0.0], "samples": 31 * [0.0], "interpolated LR": 30 * [1.0] + [0.0]})
    facts = face_findings.more_than_controls(table.assign(flow=0.0, **{"the face": 0.0}))
    assert facts["verdict"] == [findings.CONTRADICTED, findings.SUPPORTED]  # the order of `CONTROLS`
    assert facts["said"].startswith("interpolated LR 97% (+0% [") and "; " not in facts["said"]
    called = face_findings.called("search", "flow")
    assert called["none"] == face_findings.FACES and called["search"] == face_findings.ANSWERS
    assert called[f"search + {face_groups.LIKE_FACE}"] == face_findings.LIKE_FACES
    assert set(face_findings.CONTROLS) < set(called.values())
    with pytest.raises(KeyError):
        face_findings.more_than_controls(table.drop(columns="PULSE"))
