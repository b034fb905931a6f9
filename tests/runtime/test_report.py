"""The report: complete, self-contained, and safe with text that a model wrote."""

import re
from html.parser import HTMLParser
from typing import ClassVar

import pytest

from raysafe.config import Job
from raysafe.records.evidence import Evidence
from raysafe.runtime.plots import Bars, Heatmap, Series, line_plot, plot
from raysafe.runtime.report import MAX_CELL_CHARACTERS, Section, metric_plots, write_report
from raysafe.runtime.run import Run

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)> & 'quoted' \"text\""


class SomeJob(Job):
    job: ClassVar[str] = "some-job"
    note: str = "plain"


class Tags(HTMLParser):
    """Every tag and attribute that a browser would see."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


def finished_run(tmp_path, note="plain"):
    run = Run.create(SomeJob(storage=str(tmp_path), note=note))
    run.record_input("data", "pairs.jsonl", "ab" * 32)
    for step in range(1, 21):
        run.log(step, {"train/loss": 1 / step, **({"validation/loss": 1.1 / step} if step % 5 == 0 else {})})
    run.flush()
    run.add_evidence(
        [
            Evidence(
                suite="safety-prompts",
                metric="unsafe_rate",
                value=0.0312,
                n=96,
                interval=(0.01, 0.09),
                threshold=0.05,
                better="lower",
                model_digest="cd" * 32,
            )
        ]
    )
    run.event("finished", seconds=12)
    return run


@pytest.fixture
def page(tmp_path):
    run = finished_run(tmp_path, note=ATTACK)
    write_report(run, title=ATTACK, sections=[Section(ATTACK, ATTACK, [["answer"], [ATTACK], [True]])])
    return run.folder.read("report.html").decode()


def test_report_shows_config_evidence_metrics_lineage_environment_and_events(page):
    texts = " ".join(Tags(page).texts)
    for wanted in ("some-job", "unsafe_rate", "0.0312", "<= 0.05", "ab" * 32, "python", "seconds: 12", "train/loss"):
        assert wanted in texts


def test_markup_in_any_text_stays_text(page):
    tags = Tags(page)
    assert "script" not in tags.tags and "img" not in tags.tags
    assert not any(name.startswith("on") for name, _ in tags.attributes)
    assert sum(ATTACK in text for text in tags.texts) >= 4


def test_report_asks_for_nothing_from_outside(page):
    links = [value for name, value in Tags(page).attributes if name in ("src", "href", "xlink:href")]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\((?!#)", page)


def test_report_of_the_same_run_is_the_same_bytes(tmp_path):
    run = finished_run(tmp_path)
    write_report(run)
    first = run.folder.read("report.html")
    write_report(run)
    assert run.folder.read("report.html") == first


def test_an_empty_run_has_a_report(tmp_path):
    run = Run.create(SomeJob(storage=str(tmp_path)))
    write_report(run)
    assert "Settings" in run.folder.read("report.html").decode()


def test_long_text_is_cut_and_says_so(tmp_path):
    run = Run.create(SomeJob(storage=str(tmp_path)))
    write_report(run, sections=[Section("answers", table=[["answer"], ["x" * (MAX_CELL_CHARACTERS + 500)]])])
    assert "(2,500 characters)" in run.folder.read("report.html").decode()


def test_train_and_validation_share_a_plot():
    rows = [{"step": s, "train/loss": 1.0, "validation/loss": 2.0, "accuracy": 0.5} for s in (1, 2)]
    plots = metric_plots(rows)
    assert {name: [s.name for s in series] for name, series in plots.items()} == {
        "loss": ["train/loss", "validation/loss"],
        "accuracy": ["accuracy"],
    }


def test_plot_takes_the_pages_text_colour():
    svg = line_plot([Series("loss", [1, 2, 3], [3.0, 2.0, 1.0])])
    assert svg.startswith("<svg") and "currentColor" in svg


def test_bars_are_drawn_with_their_names_and_labels():
    before = Bars("before", ["unsafe", "over-refusal"], [0.6, 0.2], [(0.5, 0.7), None])
    svg = plot([before, Bars("after", ["unsafe", "over-refusal"], [0.05, 0.0])])
    assert all(word in svg for word in ("before", "after", "unsafe", "over-refusal"))


def test_a_heat_map_leaves_cells_without_a_number_empty():
    whole, holed = (plot(Heatmap([[1.0, 2.0], [3.0, last]])) for last in (4.0, float("nan")))
    assert whole.startswith("<svg") and "http" not in whole.replace("http://www.w3.org", "")
    assert whole.count("fill: #") > holed.count("fill: #")
