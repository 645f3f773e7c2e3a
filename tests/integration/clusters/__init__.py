"""Clusters on this machine, for tests and for trying things out: one file for each kind.

`python -m tests.integration.clusters.spark` starts one and prints its address. Ctrl-C stops it, and
nothing of it stays alive, whatever ends the process that started it.
"""
