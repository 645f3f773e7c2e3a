"""Example pipelines, with thin runners beside them. `python -m pipelines.run_local` starts one."""
