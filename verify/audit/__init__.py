"""Other people's samplers, held against exact worlds: contracts here, a library's adapter in a file of its own."""
