"""The world checks, one file a subject. Importing a file registers its checks."""
