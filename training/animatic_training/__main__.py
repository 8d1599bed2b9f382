"""`python -m animatic_training`: `animatic train` from a checkout, with nothing installed."""

from animatic_training.cli import command

if __name__ == "__main__":
    command(prog_name="python -m animatic_training")
