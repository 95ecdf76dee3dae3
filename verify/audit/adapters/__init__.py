"""One file for each library whose samplers can be audited; a library is imported when it is asked for."""
