"""An experiment as plain values, and everything that turns it into rows."""

from helpers.runs.driver import Experiment, Plan, keys, plan, processes, run

__all__ = ["Experiment", "Plan", "keys", "plan", "processes", "run"]
