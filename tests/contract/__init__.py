"""What every method promises, asked of each of them: a new folder below `methods` is tested unasked."""
