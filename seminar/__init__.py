"""The command: `seminar` drives every room, importing each only when it is asked for."""
