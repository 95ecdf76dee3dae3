"""Images to train on: sources by name, the order they are read in, and what may be done to them on the way."""
