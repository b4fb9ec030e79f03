"""From rows to scores, intervals, tests, rankings and sentences; knows no network."""
