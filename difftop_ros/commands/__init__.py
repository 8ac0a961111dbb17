"""One module per verb of `difftop`: `add_arguments(parser)` and `run(args) -> exit code`. Imports are lazy."""
