"""Run one experiment: `python run.py masker=saliency ratio=0.25`; `-m` sweeps. The command `veil` is the same."""

from veil.cli import main

if __name__ == "__main__":
    main()
