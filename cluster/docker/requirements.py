"""Print what pyproject.toml asks for, with a node's extras and the packages named: dependencies without the code."""

import sys
import tomllib
from pathlib import Path

EXTRAS = ("lora", "postgres")

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
wanted = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
print("\n".join([*wanted, *sys.argv[1:]]))
