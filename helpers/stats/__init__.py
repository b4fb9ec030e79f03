"""From rows to scores, intervals, tests, rankings and sentences; loads no network and no plotting library."""
