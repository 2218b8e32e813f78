"""`python -m asyncwb` is the command `asyncwb`."""

from asyncwb.cli import run

if __name__ == "__main__":
    run()
