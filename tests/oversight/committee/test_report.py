"""A monitoring report says what is, escapes what models and people wrote, and asks for what is due."""

from __future__ import annotations

from datetime import timedelta

from raysafe.cli.main import main
from raysafe.oversight.committee.statements import Proposal
from raysafe.oversight.reports import committee_report
from tests.oversight.committee.house import House


def test_a_report_names_what_the_approval_asks_for_and_nobody_watches(house: House) -> None:
    house.approve(
        proposal=Proposal(valid_s=170 * 86400, monitored=("safety.blocked",), conditions=("<b>no tools</b>",))
    )
    page = committee_report(house.store, "tiny", 86400.0)
    assert "not observed in this period: safety.blocked" in page
    assert "&lt;b&gt;no tools&lt;/b&gt;" in page and "<b>no tools" not in page
    assert "<script" not in page and "http://" not in page and "https://" not in page


def test_a_report_asks_for_a_review_before_the_approval_ends(house: House) -> None:
    house.approve(proposal=Proposal(valid_s=10 * 86400))
    assert "submit tiny:1 for review now" in committee_report(house.store, "tiny", 86400.0)


def test_where_all_is_kept_to_a_report_recommends_nothing(house: House) -> None:
    house.approve()
    page = committee_report(house.store, "tiny", 86400.0)
    assert "<h2>Recommendations</h2><p>None.</p>" in page


def test_a_report_says_that_evidence_was_changed(house: House) -> None:
    (house.folder / "run" / "evidence.json").write_text("[]")
    house.approve()
    (house.folder / "run" / "evidence.json").write_text("[ ]")
    assert "evidence.json of" in committee_report(house.store, "tiny", timedelta(days=1).total_seconds())


def test_the_command_writes_the_page(house: House) -> None:
    target = house.folder / "report.html"
    assert main(["committee", "report", "tiny", "--out", str(target)]) == 0
    assert "has not been reviewed" in target.read_text()
    assert main(["committee", "report", "tiny", "--out", str(target), "--period", "soon"]) == 2
