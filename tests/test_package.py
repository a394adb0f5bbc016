"""Veil as a package."""

import re
import subprocess
import sys


def test_importing_veil_is_quick() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import veil; veil.__version__"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "| torch" not in told
    (microseconds,) = re.findall(r"\| +(\d+) \| veil$", told, flags=re.MULTILINE)
    assert int(microseconds) < 200_000
