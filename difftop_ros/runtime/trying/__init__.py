"""A robot behind its topics as something to try: an environment whose commands pass the gate."""
