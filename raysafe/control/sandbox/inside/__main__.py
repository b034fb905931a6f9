"""Entry point of process 1: `python -I <this folder> CONTROL STDOUT STDERR`, three file descriptors."""

import sys

from keeper import keep  # pyright: ignore[reportMissingImports]

keep(*map(int, sys.argv[1:4]))
