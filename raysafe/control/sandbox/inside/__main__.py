"""Entry point of process 1: `python -I <this folder> CONTROL STDOUT STDERR`, three file descriptors; or, on gVisor,
`python -I <this folder> guest`.
"""

import sys

if sys.argv[1:] == ["guest"]:
    from guest import keep  # pyright: ignore[reportMissingImports]

    keep()
else:
    from keeper import keep  # pyright: ignore[reportMissingImports]

    keep(*map(int, sys.argv[1:4]))
