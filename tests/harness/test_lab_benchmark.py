"""harness/lab_benchmark.py: its figures on a page. The measuring itself is `bench lab benchmark`."""

from pathlib import Path

from harness.lab_benchmark import PAGE, Figure, write_page


def test_figures_are_written_with_their_limits_and_the_machine(tmp_path: Path) -> None:
    figures = [
        Figure("connection plus facts", "s", 0.13, 1.0),
        Figure("upload beside scp", "ratio", 0.61, 0.7, least=True, detail="61 MB/s, scp 100 MB/s"),
    ]
    page = write_page(figures, {"command": "bench lab benchmark --sessions 3"}, tmp_path / "site")
    assert page == tmp_path / "site" / PAGE
    shown = page.read_text(encoding="utf-8")
    for text in ("0.130\u00a0s", "at least 0.7\u00a0\u00d7", "1 of 2", "--sessions 3", "61 MB/s", "cores of"):
        assert text in shown
