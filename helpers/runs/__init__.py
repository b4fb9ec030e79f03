"""An experiment as plain values, and everything that turns it into rows: here, on all cores, or on a cluster."""

from helpers.runs.cell import draw
from helpers.runs.cluster import local, slurm
from helpers.runs.driver import Plan, plan, run
from helpers.runs.experiment import Experiment
from helpers.runs.methods import rescaler
from helpers.runs.pairs import pair, proof
from helpers.runs.words import left_out

keys = Experiment.keys

__all__ = [
    "Experiment", "Plan", "draw", "keys", "left_out", "local", "pair", "plan", "proof", "rescaler", "run", "slurm",
]  # fmt: skip
