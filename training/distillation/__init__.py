"""Students of a finished run, one file for each kind, and what they share; the families' entry is distill.py."""
