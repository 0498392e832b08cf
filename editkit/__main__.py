"""`editkit` and `python -m editkit`."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is imported ends with one line and status 130, too."""
    try:
        from editkit import cli
    except KeyboardInterrupt:
        print("editkit: Stopped.", file=sys.stderr)
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
