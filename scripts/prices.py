"""Writes the price list of the installed genai-prices as spanbox records with it: prices.py FILE.

It runs while the package is built, when spanbox itself cannot be imported yet.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


def main(target: Path) -> None:
    package = ModuleType("spanbox")
    package.__path__ = [str(Path(__file__).parent.parent / "python" / "spanbox")]
    sys.modules["spanbox"] = package
    from spanbox._price_compile import compile_list
    from spanbox._price_table import installed_prices

    target.write_text(compile_list(installed_prices()), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
