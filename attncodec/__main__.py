"""`python -m attncodec` runs the console script."""

from attncodec.cli import main

if __name__ == "__main__":
    main()
