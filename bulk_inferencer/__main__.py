"""The command line, as `python -m bulk_inferencer`."""

from bulk_inferencer.cli.main import main

if __name__ == "__main__":
    main()
