"""What each family of recipes gives the loop; the protocol is in training/task.py."""
