"""The command line, as `bulk-inferencer` and as `python -m bulk_inferencer`."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Runs the command line, and ends the process with its exit code."""
    try:
        from bulk_inferencer.cli.main import main as run

        run()
    except KeyboardInterrupt:  # before there is anybody to say so, and nothing has begun
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
