"""`python -m helpers.weights`: list, fetch, verify, path."""

import os
import re
import subprocess
import sys

import pytest

from helpers.weights import WEIGHTS, Entry, embedded, fetch, store
from helpers.weights import __main__ as weights_cli
from tests.checkpoints import CONTENT, SHA256, empty_home, server

pytestmark = pytest.mark.usefixtures("empty_home")


def test_list_says_where_everything_is(server, monkeypatch, tmp_path, capsys):
    server.answers[:] = ["whole"]
    assert weights_cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert rows.keys() == {"name", *WEIGHTS, *(path.stem for path in store.EMBEDDED.glob("*.safetensors"))}
    assert rows["name"].split() == ["name", "where", "size", "notebooks", "file", "licence"]
    assert re.search(r"missing +244.4 MB +03( \d\d)+ +alexnet-owt-7be5be79.pth +torchvision BSD", rows["alexnet"])
    assert re.search(r"embedded +3.7 MB +default +compact_flow_x4.safetensors", rows["compact_flow_x4"])
    assert re.search(r"missing +\? +05 +synthesis.pt +CC BY-NC 4.0", rows["pulse_synthesis"])
    start = rows["name"].index("where")
    assert all(line[start - 1] == " " and line[start] != " " for line in lines) and server.asked == []
    fetch("a")
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(tmp_path))
    for content, where in ((None, "cache"), (CONTENT, "shared folder"), (CONTENT[1:], "cache")):
        if content:
            (tmp_path / "a.pth").write_bytes(content)
        weights_cli.main(["list"])
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("a  "))
        assert re.match(f"a +{where} +10.2 kB +- +a.pth +ours", row)
    monkeypatch.setenv("IDA_RD_WEIGHTS", str(tmp_path))
    weights_cli.main(["list"])
    assert re.search("\na +wrong ", capsys.readouterr().out)
    monkeypatch.setitem(WEIGHTS, "b", Entry("b.pth", (), "0" * 8, None, "ours", instead="c"))
    monkeypatch.setitem(WEIGHTS, "c", Entry("c.pth", (), SHA256, None, "ours"))
    for content, where in ((CONTENT, "other file"), (CONTENT[1:], "missing")):
        (tmp_path / "c.pth").write_bytes(content)
        weights_cli.main(["list"])
        assert re.search(f"\nb +{where} ", capsys.readouterr().out)


def test_fetch_goes_on_after_a_failure_and_ends_with_1(server, tmp_path, capsys):
    server.answers[:] = ["whole"]
    assert weights_cli.main(["fetch", "SRFlow_DF2K_4X", "a", "compact_flow_x4"]) == 1
    out, err = capsys.readouterr()
    assert out.split() == [str(tmp_path / "cache" / "a.pth"), str(embedded("compact_flow_x4"))]
    for expected in ("SRFlow_DF2K_4X.pth is missing: put it into", "IDA_RD_WEIGHTS", "by hand", "404"):
        assert expected in err
    assert weights_cli.main(["fetch", "a"]) == 0 and len(server.asked) == 1


def test_path(server, tmp_path, capsys):
    server.answers[:] = ["whole"]
    assert weights_cli.main(["path", "a"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "a.pth is missing" in err and server.asked == []
    fetch("a")
    assert weights_cli.main(["path", "a"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'cache' / 'a.pth'}\n"
    assert weights_cli.main(["path", "b"]) == 1
    assert "expected a checkpoint of alexnet, " in capsys.readouterr().err


def test_verify_hashes_everything_anew(server, monkeypatch, tmp_path, capsys):
    server.answers[:] = ["whole"]
    path = fetch("a")
    assert weights_cli.main(["verify"]) == 0
    out = capsys.readouterr().out
    assert f"right  {path}\n" in out and f"right  {embedded('compact_flow_x4')}\n" in out and "WRONG" not in out
    stat = path.stat()
    path.write_bytes(CONTENT[:99] + b"?" + CONTENT[100:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # neither size nor time tells
    assert weights_cli.main(["verify"]) == 1
    assert f"WRONG  {path}: SHA-256 expected {SHA256}, found" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["embedded", "shared", "torch.hub"])
def test_verify_looks_everywhere(monkeypatch, tmp_path, capsys, what):
    monkeypatch.setattr(store, "EMBEDDED", tmp_path / "embedded")
    monkeypatch.setenv("IDA_RD_SHARED_CACHE", str(tmp_path / "shared"))
    monkeypatch.setitem(WEIGHTS, "a", Entry("a.pth", (), SHA256, None, "ours"))
    assert weights_cli.main(["verify"]) == 0
    file = {
        "embedded": "embedded/x.safetensors",
        "shared": "shared/a.pth",
        "torch.hub": "torch/hub/checkpoints/a.pth",
    }[what]
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_bytes(CONTENT[1:])
    assert weights_cli.main(["verify"]) == 1
    assert re.search(f"WRONG  .*{file}", capsys.readouterr().out)


def test_verify_says_that_converted_copies_of_an_earlier_version_are_not_read(tmp_path, capsys):
    copies = tmp_path / "cache" / "converted"
    copies.mkdir(parents=True)
    assert weights_cli.main(["verify"]) == 0
    assert f"unused {copies}: " in capsys.readouterr().out
    copies.rmdir()
    assert weights_cli.main(["verify"]) == 0 and "unused" not in capsys.readouterr().out


def test_command_line_as_a_program():
    run = [sys.executable, "-m", "helpers.weights", "path", "compact_flow_x4"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=store.EMBEDDED.parents[1])
    assert (done.returncode, done.stdout.strip()) == (0, str(embedded("compact_flow_x4"))), done.stderr


@pytest.mark.parametrize("arguments", [[], ["fetch"], ["path"], ["path", "a", "b"], ["remove", "a"]])
def test_command_line_that_is_none_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        weights_cli.main(arguments)
    assert caught.value.code == 2 and "usage: python -m helpers.weights" in capsys.readouterr().err
