"""Scale: one training loop on Accelerate, from a toy network on two cores to a cluster.

`recipes` says what to train, `loop` trains it, `checkpoint` and `run_folder` keep it, `runs` opens it again, `evaluate`
measures it against the exact law, and `draw` shows it. The mathematics is `diffusion/`'s.
"""
