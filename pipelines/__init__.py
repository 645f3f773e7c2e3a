"""Example pipelines and what runs them. `python -m pipelines.run_local` starts one."""
