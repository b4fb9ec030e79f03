"""Run the notebooks in the paper's setting: what it needs, how long it takes, and the command."""
