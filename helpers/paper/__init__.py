"""The paper's setting of the notebooks: what it needs, how long it takes, and running it."""
