"""Claims about progress on narrow screens."""

from harness.cli.progress import shortened


def test_what_does_not_fit_keeps_its_end_or_nothing() -> None:
    name = "model.layers.3.mlp.down_proj"
    assert shortened(name, len(name)) == name
    assert shortened(name, 12) == "…p.down_proj"
    assert shortened(name, 6) == shortened(name, -3) == ""
