"""Clusters begin and end cleanly; tasks on them get second tries, deadlines, and no more than their share of blame."""

import ast
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
from distributed import Client

from helpers import runs
from helpers.runs import cluster
from helpers.runtime import WORKER
from tests.fakes import published, run, write_images
from tests.test_faults import wait_for

HERE = {"host": "127.0.0.1"}


def listening() -> list:
    """Addresses on which this process and its children listen."""
    me = psutil.Process()
    connections = [each for process in (me, *me.children(recursive=True)) for each in process.net_connections()]
    return [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]


def pids(client) -> list[int]:
    return list(client.run(os.getpid).values())


def lives(process) -> bool:
    """Whether it can still run; one that waits to be buried cannot."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def number():
    return os.environ.get(WORKER)


def nap(x):
    time.sleep(x)
    return x


def test_local_workers_have_one_thread_and_a_number_are_deaf_to_ctrl_c_and_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(listening())
    with runs.local(2) as client:
        assert list(client.nthreads().values()) == [1, 1]
        assert {address.ip for address in set(listening()) - before} == {"127.0.0.1"}
        children = [psutil.Process(pid) for pid in pids(client)]
        assert len(children) == 2 and list(tmp_path.iterdir())
        for child in children:
            child.send_signal(signal.SIGINT)
        assert dict(cluster.compute(pow, {"a": (1, 2), "b": (2, 2)}, client)) == {"a": 1, "b": 4}
        assert {child.pid for child in children} == set(pids(client))
        first = client.run(number)
        assert set(first.values()) == {"0", "1"}
        children[0].kill()
        wait_for(lambda: len(now := client.nthreads()) == 2 and now.keys() != first.keys())
        assert set(client.run(number).values()) == {"0", "1"}  # one that is started anew has the number of the dead one
    assert not any(child.is_running() for child in children)
    assert set(listening()) <= before and not list(tmp_path.iterdir())


def test_no_workers_mean_no_cluster():
    with runs.local(0) as client:
        assert client is None


@pytest.mark.parametrize("bad", [-1, "2", 2.0, True, None])
def test_another_number_of_workers_is_refused(bad):
    with pytest.raises(ValueError, match="n_workers: expected an integer >= 0"), runs.local(bad):
        pass


def test_a_script_without_its_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from helpers import runs\n\nwith runs.local(1):\n    pass\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and last.startswith("RuntimeError: the workers did not start") and "__main__" in last


def test_outcomes_come_as_they_are_ready():
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as threads:
        found = list(cluster.compute(nap, {"slow": (0.6,), "fast": (0.0,)}, threads))
        assert found == [("fast", 0.0), ("slow", 0.6)]
        hung = dict(cluster.compute(nap, {"long": (2.0,), "short": (0.0,)}, threads, deadline=0.5))
    assert hung["short"] == 0.0 and str(hung["long"]) == "hung its worker 1 times"  # a thread cannot be killed


def test_a_task_may_take_ten_times_the_median_and_at_least_a_minute():
    assert cluster._patience([]) == float("inf")
    assert cluster._patience([1, 2, 3]) == 60 and cluster._patience([1, 20, 300]) == 200
    assert cluster._patience([1, 20, 40, 300]) == 400


def test_nothing_of_dask_is_imported_before_it_is_used():
    for path in Path(cluster.__file__).parent.glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            assert not isinstance(node, ast.Import | ast.ImportFrom) or "dask" not in ast.unparse(node), path
            assert not isinstance(node, ast.Import | ast.ImportFrom) or "distributed" not in ast.unparse(node), path


def test_a_slurm_job_is_one_worker_that_signs_off_before_its_time_is_over():
    pytest.importorskip("dask_jobqueue")
    prologue = ["source activate ida-rd"]
    with cluster.slurm_cluster(4.0, "32GB", 6, 1, "gpu", "proj", prologue, scheduler_options=HERE) as made:
        script = made.job_script()
    for line in ("-p gpu", "-A proj", "-n 1", "--cpus-per-task=6", "--mem=30G", "-t 04:00:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in script
    *_, before, worker = script.splitlines()
    assert before == prologue[0]
    for words in ("--nthreads 1", "--nanny", "--lifetime 225m", "--lifetime-stagger 5m", "${TMPDIR:-/tmp}"):
        assert words in worker
    assert worker.index("--memory-limit 0") > worker.index("--memory-limit 29")  # the last one counts
    with pytest.raises(ValueError, match="hours: expected more than 0.5"):
        cluster.slurm_cluster(0.2, "1GB", 1, 0, None, None, [])


def test_slurm_jobs_compute_and_end_with_the_block(tmp_path, monkeypatch):
    """Slurm played by two scripts: one starts a job here, the other kills it."""
    pytest.importorskip("dask_jobqueue")
    job = f"cp $1 {tmp_path}/job\nsetsid sh {tmp_path}/job >{tmp_path}/log 2>&1 &\n"  # $1 is deleted once this ends
    start = f"#!/bin/sh\n{job}echo $! >>{tmp_path}/jobs\necho Submitted batch job $!\n"
    for name, text in {"sbatch": start, "scancel": "#!/bin/sh\nkill -- -$1\n"}.items():
        path = tmp_path / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    with runs.slurm(1, memory="1GB", scheduler_options=HERE) as client:
        client.wait_for_workers(1, timeout=30)
        assert dict(cluster.compute(pow, {"a": (2, 3)}, client)) == {"a": 8}
        (job,) = map(int, (tmp_path / "jobs").read_text().split())
        processes = [psutil.Process(pid) for pid in (job, *pids(client))]
    end = time.monotonic() + 20
    while any(map(lives, processes)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_notebook_computes_the_rows_of_a_serial_run_on_its_own_workers(tmp_path):
    folder = write_images(tmp_path / "images", 3)
    how = {"downscalers": ["box", "nearest"], "scale": 4, "upscaler": "bicubic", "heat": 0.0, "distortion": "mse"}
    one = runs.Experiment(folder, ["00", "01", "02"], device="cpu", **how)
    text = f"""
from helpers import runs
experiment = runs.{one!r}
with runs.local(1) as client:
    print(runs.plan(experiment, {str(tmp_path / "rows")!r}, client).summary)
with runs.local(1) as client:
    rows = runs.run(experiment, {str(tmp_path / "rows")!r}, client)
print(len(rows), "rows")
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)])
    nbformat.write(notebook, tmp_path / "in.ipynb")
    done = papermill.execute_notebook(
        tmp_path / "in.ipynb", tmp_path / "out.ipynb", kernel_name="python3", cwd=tmp_path, progress_bar=False
    )
    said = "".join(output.get("text", "") for output in done.cells[0].outputs)
    assert "4 of 6 rows missing" in said and "6 rows" in said
    run(one, tmp_path / "serial")
    assert published(tmp_path / "rows") == published(tmp_path / "serial")


@pytest.mark.parametrize(
    "how, message",
    [
        ({"n_jobs": "x"}, "n_jobs: expected an integer >= 1, got 'x'"),
        ({"n_jobs": 0}, "n_jobs: expected an integer >= 1, got 0"),
        ({"n_jobs": 1, "gpus": -1}, "gpus: expected an integer >= 0, got -1"),
        ({"n_jobs": 1, "cpus": 1.5}, "cpus: expected an integer >= 1, got 1.5"),
        ({"n_jobs": 1, "hours": "4"}, "hours: expected more than 0.5, .*, got '4'"),
        ({"n_jobs": 1, "hours": float("nan")}, "hours: expected more than 0.5"),
    ],
)
def test_numbers_of_jobs_that_cannot_be(how, message):
    with pytest.raises(ValueError, match=message), runs.slurm(**how):
        pass
