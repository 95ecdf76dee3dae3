"""Still pictures of claims: what a hypothesis is for, where a threshold lies, how large a bias is.

One module a topic, one function a figure, `animations.figures.vae.posterior_collapse` for `vae.posterior_collapse`;
the rows are in `animations/catalog.py`. A figure computes what it shows from `diffusion/` and `toy/`, takes its
closed-form curves from the claims themselves (`animations.claims.curve`), and carries their ids and hashes.
"""
