"""Sessions of edits in a row, kept on disk, and replays of edits."""
