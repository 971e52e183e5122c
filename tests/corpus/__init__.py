"""Runs as earlier versions stored them: today's code reads them, fits them and goes on with them."""

from pathlib import Path

FOLDER = Path(__file__).parent / "stored"
