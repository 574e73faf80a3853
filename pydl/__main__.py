"""`python -m pydl`: the command line."""

from pydl.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
