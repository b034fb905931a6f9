"""`raysafe quickstart`, as a user runs it: what the README shows of it."""

from __future__ import annotations

import pytest

from tests.verify.readme import publish
from tests.verify.shell import Clock, Shell


@pytest.mark.slow
def test_the_quickstart_ends_with_a_safer_model_behind_guards(shell: Shell) -> None:
    clock = Clock()
    printed = shell.run("raysafe quickstart", show=False)
    table = printed.rindex("\n", 0, printed.index("on held-out requests")) + 1
    shown = printed[table:].partition("Next:")[0]
    assert "request stopped by a guard" in shown and "answered: " in shown
    (report,) = shell.folder.glob("runs/quickstart/quickstart-*/report.html")
    assert "<svg" in report.read_text()
    lines = "\n".join(f"    {line}".rstrip() for line in shown.replace(f"{shell.folder}/", "").splitlines())
    publish("quickstart", f"What it prints at its end, {clock.text} after its start on 2 cores:\n\n{lines}")
