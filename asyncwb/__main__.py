"""`python -m asyncwb` is the command `asyncwb`."""

from asyncwb.cli import main

if __name__ == "__main__":
    main(prog_name="asyncwb")
