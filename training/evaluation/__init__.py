"""How good a run of images is: its likelihood, how far its samples are from the data, and whether it only copies."""
