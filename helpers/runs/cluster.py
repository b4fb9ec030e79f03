"""Compute tasks in this process or on a Dask cluster; start and stop local and Slurm clusters.

Dask restarts dead workers and runs their tasks again. This module adds a deadline for a task that hangs, one retry
after errors that may pass, and one retry, alone, for a task whose worker died.
"""

import bisect
import contextlib
import logging
import math
import numbers
import os
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from helpers.runs import cell
from helpers.runs.apart import Lost
from helpers.runtime import WORKER, is_whole

if TYPE_CHECKING:  # importing it takes half a second, which only those pay who use it
    from distributed import Client, Future

HANGS = 3  # times that a task may pass its deadline
DEATHS = 2  # workers that a task may lose in company of others, and again when it is alone


@contextlib.contextmanager
def local(n_workers: int) -> Iterator["Client | None"]:
    """Processes of one thread on this machine: `with runs.local(2) as client: runs.run(experiment, folder, client)`.

    They listen on 127.0.0.1 only, and end with the block or with this process, however it ends; of one that is killed
    a folder ida-rd-* stays in the temporary folder. They are spawned: a script needs `if __name__ == "__main__":`.

    Args:
        n_workers: how many; 0 yields None, which computes in this process.

    Raises:
        ValueError: no such number.
        RuntimeError: the workers did not start.
    """
    if not is_whole(n_workers, 0):
        raise ValueError(f"n_workers: expected an integer >= 0, got {n_workers!r}")
    if not n_workers:
        yield None
        return
    import dask
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ida-rd-", ignore_cleanup_errors=True))
        settings = {"distributed.scheduler.allowed-failures": DEATHS - 1, "temporary-directory": folder}
        stack.enter_context(dask.config.set(settings))
        try:
            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # None would listen on 8787
                worker_dashboard_address=None,
                memory_limit=0,  # a worker that Dask pauses for its memory never goes on
                silence_logs=logging.CRITICAL,  # what they say stands in `results.aside`
            )
        except RuntimeError as error:
            hint = 'a script starts them below `if __name__ == "__main__":`'
            raise RuntimeError(f"the workers did not start; {hint}, what they said stands above") from error
        client = stack.enter_context(Client(stack.enter_context(cluster)))
        client.register_worker_callbacks(partial(signal.signal, signal.SIGINT, signal.SIG_IGN))  # Ctrl-C is for us
        client.register_worker_callbacks(_number)
        yield client


def _number(dask_worker) -> None:
    """Tell a worker its number, by which `pick_device` spreads them over the GPUs; one started anew keeps it."""
    os.environ[WORKER] = str(dask_worker.name)


@contextlib.contextmanager
def slurm(
    n_jobs: int,
    *,
    hours: float = 4.0,
    memory: str = "16GB",
    cpus: int = 1,
    gpus: int = 0,
    queue: str | None = None,
    account: str | None = None,
    prologue: Sequence[str] = (),
    **options,
) -> Iterator["Client"]:
    """Workers as Slurm jobs, one thread and one image at a time each; needs the extra `slurm` (dask-jobqueue).

    Workers sign off between two images before their time is over, and new jobs take their place; this package must be
    installed where they run. The scheduler runs in this process and listens on the cluster's network, without a
    password: use it on networks that you trust.

    Args:
        n_jobs: how many jobs at once.
        hours: time limit of a job, more than half an hour.
        memory, cpus, gpus: of a job.
        queue, account: partition and account that pay for it.
        prologue: lines of shell before the worker, for example `["source activate ida-rd"]`.
        options: further ones of `dask_jobqueue.SLURMCluster`, for example `interface="ib0"`.

    Raises:
        ValueError: a number that is none, or too small.
    """
    for name, value, least in (("n_jobs", n_jobs, 1), ("cpus", cpus, 1), ("gpus", gpus, 0)):
        if not is_whole(value, least):
            raise ValueError(f"{name}: expected an integer >= {least}, got {value!r}")
    from distributed import Client

    with slurm_cluster(hours, memory, cpus, gpus, queue, account, prologue, **options) as cluster:
        cluster.adapt(minimum=n_jobs, maximum=n_jobs)  # unlike `scale` it replaces jobs that ended
        with Client(cluster) as client:
            yield client


def slurm_cluster(hours, memory, cpus, gpus, queue, account, prologue, **options):
    """The `SLURMCluster` of `slurm`, before it has any job."""
    from dask_jobqueue import SLURMCluster

    if isinstance(hours, bool) or not isinstance(hours, numbers.Real) or not 0.5 < hours < math.inf:
        raise ValueError(f"hours: expected more than 0.5, which workers need to sign off, got {hours!r}")
    minutes = round(60 * hours)
    life = ["--lifetime", f"{minutes - 15}m", "--lifetime-stagger", "5m"]
    directives = [*([f"--gres=gpu:{gpus}"] if gpus else []), *options.pop("job_extra_directives", [])]
    usual = {
        "cores": 1,
        "processes": 1,
        "job_cpu": cpus,
        "memory": memory,
        "walltime": f"{minutes // 60:02d}:{minutes % 60:02d}:00",
        "queue": queue,
        "account": account,
        "job_extra_directives": directives,
        "worker_extra_args": [*life, "--no-dashboard", "--memory-limit", "0"],  # Slurm guards the memory
        "job_script_prologue": list(prologue),
        "local_directory": "${TMPDIR:-/tmp}",
        "log_directory": "logs/dask",
        "scheduler_options": {"dashboard_address": ":0"} | options.pop("scheduler_options", {}),
    }
    return SLURMCluster(**usual | options)


def compute(
    function: Callable, tasks: Mapping[str, tuple], client: "Client | None" = None, deadline: float | None = None
) -> Iterator[tuple[str, object]]:
    """Call a function for each task, and yield each outcome as soon as it is there.

    A task gets a second try after an error of memory or of input and output, and after its worker died, then alone.

    Args:
        function: pure: it may be called anywhere, and more than once.
        tasks: name -> arguments, plain values.
        client: None calls it here, one task after the other.
        deadline: seconds after which a worker is restarted and its task tried again with twice the time; None is ten
            times the median, at least a minute. There is none without a client.

    Returns:
        Pairs of a name and what the function returned, or the error that ended the task.

    Raises:
        RuntimeError: the cluster ended.
    """
    return _compute_on(client, function, tasks, deadline) if client else _compute_here(function, tasks)


def _compute_here(function: Callable, tasks: Mapping[str, tuple]) -> Iterator[tuple[str, object]]:
    waiting, again = deque(tasks), set()
    while waiting:
        name = waiting.popleft()
        try:
            outcome = function(*tasks[name])
        except Exception as error:
            if cell.may_pass(error) and name not in again:
                again.add(name)
                waiting.append(name)
                continue
            outcome = error
        yield name, outcome


def _compute_on(client, function, tasks, deadline) -> Iterator[tuple[str, object]]:
    from distributed import KilledWorker, TimeoutError, wait

    waiting, alone = deque(tasks), deque()
    running: dict[Future, tuple[str, float]] = {}  # name, and since when
    again, deaths, hangs, seconds = set(), Counter(), Counter(), []

    def submit(name: str) -> None:
        running[client.submit(function, *tasks[name], pure=False)] = name, time.monotonic()

    try:
        while waiting or alone or running:
            n_threads = sum(client.nthreads().values())  # no more, so that nobody waits beside a task that kills
            while waiting and len(running) < max(1, n_threads):
                submit(waiting.popleft())
            if alone and not running:
                submit(alone.popleft())
            with contextlib.suppress(TimeoutError):
                wait(list(running), timeout=1, return_when="FIRST_COMPLETED")
            for future in [future for future in running if future.done()]:
                name, start = running.pop(future)
                if future.cancelled():
                    raise RuntimeError("the cluster has ended; run again to go on")
                error = future.exception()
                if error is None:
                    bisect.insort(seconds, time.monotonic() - start)
                    yield name, future.result()
                elif isinstance(error, KilledWorker):
                    deaths[name] += error.allowed_failures + 1
                    if name not in again:
                        again.add(name)
                        alone.append(name)
                    else:
                        yield name, Lost(f"killed its worker {deaths[name]} times")
                elif cell.may_pass(error) and name not in again:
                    again.add(name)
                    waiting.append(name)
                else:
                    yield name, error
            for future, name in _late(client, running, hangs, deadline or _patience(seconds)):
                hangs[name] += 1
                if _restart_worker(client, future, give_up=hangs[name] == HANGS):
                    running[future] = name, time.monotonic()
                else:
                    del running[future]
                    yield name, Lost(f"hung its worker {hangs[name]} times")
    except (KeyboardInterrupt, SystemExit):
        for future, (name, _) in running.items():
            if future.status == "finished":
                yield name, future.result()
        raise
    finally:
        client.cancel(list(running))


def _patience(seconds: Sequence[float]) -> float:
    """How long a task may take, given how long others took, in order: ten times the median (the upper of two)."""
    return max(60, 10 * seconds[len(seconds) // 2]) if seconds else math.inf


def _late(client, running, hangs, patience) -> list:
    """(future, name) of the tasks past their deadline; the time in which no worker has a task does not count."""
    now = time.monotonic()
    late = {future: name for future, (name, start) in running.items() if now - start > patience * 2 ** hangs[name]}
    at_work = {key for keys in client.processing().values() for key in keys} if late else set()
    for future in [future for future in late if future.key not in at_work]:
        running[future] = late.pop(future), now
    return list(late.items())


def _restart_worker(client, future, give_up: bool) -> bool:
    """Kill the worker of a task, which Dask then gives to another one; False: the task is given up."""
    workers = [worker for worker, keys in client.processing().items() if future.key in keys]
    if give_up:
        future.cancel()
    try:
        client.restart_workers(workers, timeout=30, raise_for_error=False)
    except ValueError:  # a worker without a nanny, which nobody can kill
        future.cancel()
        return False
    return not give_up
