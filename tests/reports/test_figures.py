"""The figures as values: what they show, and that absent values never stop them."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports.figures import FIGURES
from reports.figures.base import Chart, escape, log_axis
from reports.tables import COLUMNS, NUMBER, read

Tables = dict[str, pd.DataFrame]
CHARTS = {name: chart for charts in FIGURES.values() for name, chart in charts.items()}


@pytest.mark.parametrize("name", CHARTS)
def test_a_figure_describes_itself_in_words(tables: Tables, name: str) -> None:
    """Every figure has traces, a height and a text alternative that mentions no absent value."""
    figure = CHARTS[name].figure(read(tables))
    assert figure is not None and len(figure.data) > 0
    assert figure.layout.height > 150
    assert len(figure.layout.meta["alt"]) > 40
    assert "nan" not in figure.layout.meta["alt"]


@pytest.mark.parametrize("name", CHARTS)
def test_needs_names_documented_columns(name: str) -> None:
    chart = CHARTS[name]
    assert all(column in COLUMNS[table] for table, columns in chart.needs.items() for column in columns)
    assert all(table in COLUMNS for table in chart.also)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.05, 0.5, 0.95]))
def test_absent_and_odd_numbers_never_stop_a_figure(tables: Tables, seed: int, share: float) -> None:
    """Numbers may be missing, zero, negative or infinite: a figure is drawn as strict JSON, or says why not."""
    random = np.random.default_rng(seed)
    damaged = {name: frame.copy() for name, frame in tables.items()}
    for name, columns in COLUMNS.items():
        for column, (kind, _) in columns.items():
            if kind is NUMBER:
                values = damaged[name][column].to_numpy(dtype=float, copy=True)
                hit = random.random(len(values)) < share
                values[hit] = random.choice([np.nan, 0.0, -1.0, np.inf], size=int(hit.sum()))
                damaged[name][column] = values
    known = read(damaged)
    for chart in CHARTS.values():
        figure = chart.figure(known)
        if figure is None:
            assert chart.lack(known)
        else:
            json.dumps(json.loads(figure.to_json()), allow_nan=False)


def _chart(name: str, tables: Tables) -> dict:  # type: ignore[type-arg]  # plotly JSON
    figure = CHARTS[name].figure(read(tables))
    assert figure is not None
    return json.loads(figure.to_json())  # type: ignore[no-any-return]


def test_latency_bars_carry_asymmetric_intervals(tables: Tables) -> None:
    (bars,) = _chart("decode", tables)["data"]
    row = tables["models"].iloc[0]
    assert bars["error_x"]["array"][0] == pytest.approx(row["decode_tps_high"] - row["decode_tps"])
    assert bars["error_x"]["arrayminus"][0] == pytest.approx(row["decode_tps"] - row["decode_tps_low"])


@pytest.mark.parametrize("kl, text", [(0.0, "0"), (2e-7, "2.0\N{MULTIPLICATION SIGN}10⁻⁷")])
def test_the_baseline_is_a_line_on_the_pareto_figure(tables: Tables, kl: float, text: str) -> None:
    """Next to no KL has no place on a log axis: the baseline is a vertical line at its time."""
    tables["models"].loc[0, "kl_mean"] = kl
    layout = _chart("pareto", tables)["layout"]
    assert [shape["x0"] for shape in layout["shapes"]] == [pytest.approx(tables["models"]["decode_ms"][0])]
    assert layout["annotations"][0]["text"].startswith(f"fp16: KL {text}<br>")


def test_bits_are_placed_by_kind_and_block(tables: Tables) -> None:
    (grid,) = _chart("bits", tables)["data"]
    row = tables["layers"].iloc[2 * 7 + 6]
    assert (row["block"], row["kind"]) == (2, "down_proj")
    assert grid["z"][6][2] == row["bits_per_weight"]
    assert row["layer"] in grid["customdata"][6][2]


def test_sensitivity_shows_the_coarsest_scheme(tables: Tables) -> None:
    figure = _chart("sensitivity", tables)
    assert "w2a8g64" in figure["layout"]["xaxis"]["title"]["text"]
    table = tables["sensitivity"]
    first = table[(table["layer"] == tables["layers"]["layer"][0]) & (table["scheme"] == "w2a8g64")]["kl"].item()
    assert figure["data"][0]["z"][0][0] == pytest.approx(np.log10(first))


KERNEL_CHARTS = ("kernel-latency", "kernel-bandwidth", "kernel-compute")


def _shuffled(kernels: pd.DataFrame) -> pd.DataFrame:
    """One kernel for one token, another for more, one scheme with a second kernel; no order at all."""
    several = kernels["variant"].where(kernels["m"] == 1, kernels["variant"] + "_4x8")
    second = kernels[kernels["scheme"] == "w8a8"].assign(variant="a8_scalar")
    return pd.concat([kernels.assign(variant=several), second]).sample(frac=1, random_state=1)


def test_a_scheme_has_one_colour_in_every_figure(tables: Tables) -> None:
    tables["kernels"] = _shuffled(tables["kernels"])
    traces = [trace for name in KERNEL_CHARTS for trace in _chart(name, tables)["data"]]
    traces += [trace for trace in _chart("predicted-decode", tables)["data"] if "name" in trace]
    schemes = set(tables["kernels"]["scheme"])
    colors = {(trace["name"], trace["marker"]["color"]) for trace in traces if trace["name"] in schemes}
    assert len(colors) == len({name for name, _ in colors}) == len(schemes)
    labels = tables["models"]["label"].tolist()
    bars = _chart("decode", tables)["data"][0]["marker"]["color"]
    assert colors <= set(zip(labels, bars, strict=True))


@pytest.mark.parametrize("name", KERNEL_CHARTS)
def test_the_legend_names_each_scheme_once_in_order(tables: Tables, name: str) -> None:
    """One entry per scheme, few bits first, without the kernel; it stands for all traces of the scheme."""
    tables["kernels"] = _shuffled(tables["kernels"])
    traces = _chart(name, tables)["data"]
    assert [t["name"] for t in traces if t["showlegend"]] == ["w2a8g64", "w3a8g128", "w4a8g128", "w8a8", "fp16"]
    assert all(t["legendgroup"] == t["name"] and len(t["y"]) > 0 for t in traces)


def test_two_kernels_of_a_scheme_stand_side_by_side(tables: Tables) -> None:
    """Every kernel is a trace with a place of its own, named on hover."""
    tables["kernels"] = _shuffled(tables["kernels"])
    bars = [trace for trace in _chart("kernel-bandwidth", tables)["data"] if trace["name"] == "w8a8"]
    assert len({trace["offsetgroup"] for trace in bars}) == 2
    assert all(v in trace["customdata"][0] for trace, v in zip(bars, ("dotprod", "scalar"), strict=True))


def test_the_prediction_band_is_five_percent(tables: Tables) -> None:
    band = _chart("predicted-decode", tables)["data"][0]
    low, high = min(band["x"]), max(band["x"])
    assert band["y"] == pytest.approx([0.95 * low, 0.95 * high, 1.05 * high, 1.05 * low])


def _text(figure: dict) -> str:  # type: ignore[type-arg]  # plotly JSON
    return " ".join(figure["layout"]["yaxis"]["ticktext"])


def test_energy_is_shown_gross_and_net_with_its_boundary_and_its_doubts(tables: Tables) -> None:
    """In mJ; of the sixth model no bar; the coarse sensor stands beside the number."""
    figure = _chart("energy", tables)
    gross, net = figure["data"]
    assert gross["x"] == pytest.approx([6.4, 3.7, 2.7, 2.9, 2.3])
    assert net["x"] == pytest.approx([0.4 * value for value in gross["x"]])
    assert gross["error_x"]["array"][0] == pytest.approx(0.02 * 6.4)
    assert _text(figure).count("<i>coarse</i>") == 2 and "w8a8" in _text(figure)
    assert "ina3221: module, without the carrier board" in figure["layout"]["meta"]["caption"]


def test_the_energy_headline_claims_nothing_where_intervals_overlap(tables: Tables) -> None:
    said = _chart("energy", tables)["layout"]["meta"]["headline"]
    assert said.startswith("w2a8g64 takes the least energy: 2.3")
    gross = (tables["energy"]["metric"] == "energy") & (tables["energy"]["phase"] == "decode")
    tables["energy"].loc[gross & (tables["energy"]["label"] == "w4a8g128"), "low"] = 0.0021
    assert "w4a8g128 overlaps: no claim" in _chart("energy", tables)["layout"]["meta"]["headline"]


def test_energy_of_prefill_alone_draws_no_bar_and_says_so(tables: Tables) -> None:
    tables["energy"] = tables["energy"][tables["energy"]["phase"] == "prefill"]
    known = read(tables)
    assert CHARTS["energy"].figure(known) is None
    assert CHARTS["energy"].lack(known)


def test_sessions_have_their_steps_where_they_were_and_the_launches_between(tables: Tables) -> None:
    figure = _chart("sessions", tables)
    bars = {trace["name"]: trace for trace in figure["data"]}
    assert list(bars) == ["launches", "done", "unavailable", "failed"]
    assert bars["launches"]["x"] == pytest.approx([40.0, 40.0])
    assert bars["failed"]["base"] == pytest.approx([0.01, 0.01])
    assert "4 on 2 cores" in bars["failed"]["customdata"][0]
    assert "Of 91.3 s in 2 sessions, 11.3 s (12.4" in figure["layout"]["meta"]["headline"]
    assert "Failed: doctor" in figure["layout"]["meta"]["headline"]


def test_sessions_without_times_have_their_steps_one_after_another(tables: Tables) -> None:
    tables["sessions"]["ended"] = ["yesterday"] + [None] * (len(tables["sessions"]) - 1)
    done = _chart("sessions", tables)["data"][0]
    assert done["name"] == "done"
    assert done["base"][:2] == pytest.approx([0.0, 0.25])


def test_passes_over_time_stand_beside_burst_and_sustained(tables: Tables) -> None:
    """A row a model; w8a8 is half again as slow after 118 s."""
    figure = _chart("sustained", tables)
    lines = [trace for trace in figure["data"] if trace["yaxis"] == "y2" and len(trace["y"]) == 2]
    levels = {trace["name"]: trace["y"][0] for trace in lines}
    assert levels["sustained"] == pytest.approx(1.5 * levels["burst"])
    head = figure["layout"]["annotations"][1]["text"]
    assert "w8a8" in head and "of its burst, slower from 118 s" in head and "first 0.863" in head
    assert figure["layout"]["meta"]["headline"].startswith("1 of 6 models slow down within 600 s; most so w8a8")


def test_models_that_keep_their_speed_are_said_to(tables: Tables) -> None:
    tables["sustained"]["ratio"] = 0.995
    assert _chart("sustained", tables)["layout"]["meta"]["headline"].startswith("All 6 models keep their burst speed")


def test_many_blocks_leave_words_out_of_the_cells(tables: Tables) -> None:
    """Forty blocks: no text in cells, a colour bar instead."""
    layers = tables["layers"]
    tables["layers"] = pd.concat([layers.assign(block=layers["block"] + 4 * i) for i in range(10)])
    figure = _chart("bits", tables)
    assert figure["data"][0].get("texttemplate", "") == ""
    assert figure["layout"]["coloraxis"]["showscale"] is True


def test_labels_are_literal_and_short() -> None:
    assert escape("<b>&") == "&lt;b&gt;&amp;"
    assert len(escape("x" * 1000)) < 50


@pytest.mark.parametrize("values, ticks", [([3.0, 40], True), ([1e-6, 1], False), ([], False), ([0.0, -1], False)])
def test_a_log_axis_has_ticks_to_read(values: list[float], ticks: bool) -> None:
    """1-2-5 ticks over few decades, powers of ten over many."""
    axis = log_axis(pd.Series(values, dtype=float))
    assert axis["type"] == "log"
    assert ("tickvals" in axis) == ticks


def test_what_is_lacking_is_said_in_words(tables: Tables) -> None:
    chart = Chart("t", "c", lambda frame: None, needs={"models": ("decode_tps", "bytes")})
    empty = read({})
    assert chart.figure(empty) is None
    assert chart.lack(empty) == "the table “models” is missing or empty"
    tables["models"]["bytes"] = np.nan
    assert chart.lack(read(tables)) == "no row of the table “models” has decode_tps and bytes"


def _roofs(tables: Tables) -> dict[str, dict]:  # type: ignore[type-arg]  # plotly JSON
    return {trace["name"]: trace for trace in _chart("roofline", tables)["data"] if trace["mode"] == "lines"}


def test_the_roofs_are_what_was_measured(tables: Tables) -> None:
    """Reading: a constant ratio, in the faster pages. Arithmetic: level, the fastest loop of each instruction set."""
    roofs = _roofs(tables)
    memory = roofs["memory 15.9 GB/s"]
    assert [y / x for x, y in zip(memory["x"], memory["y"], strict=True)] == pytest.approx([15.9, 15.9])
    assert roofs["14.2 GB/s in pages of the other size"]["line"]["dash"] == "dash"
    assert roofs["int8 dotprod 153"]["y"] == [153, 153]
    assert roofs["int8 neon 76.0"]["y"] == [76, 76]
    assert roofs["fp32 38.0"]["y"] == [38, 38]


def test_every_product_is_told_its_share_of_the_roof_that_limits_it(tables: Tables) -> None:
    figure = _chart("roofline", tables)
    tables["limits"]["value"] *= 2
    halved = _chart("roofline", tables)
    told = [text for trace in figure["data"] for text in trace.get("customdata", ())]
    assert len(told) == len(tables["kernels"])
    assert any("of what reading" in text for text in told) and any("of what int8 dotprod" in text for text in told)
    assert all("fp32" in text or "reading" in text for text in told if text.startswith("<b>fp16"))
    (share,), (half,) = (
        [int(t.split("<br>")[-1].split(" %")[0]) for t in texts if "<b>w8a8" in t and "N 768, K 256, M 128" in t]
        for texts in (told, [text for trace in halved["data"] for text in trace.get("customdata", ())])
    )
    assert share == pytest.approx(2 * half, abs=1)


def test_a_run_whose_limits_are_unknown_has_no_roofline(tables: Tables) -> None:
    tables["limits"] = tables["limits"][tables["limits"]["what"] == "read"]
    assert CHARTS["roofline"].figure(read(tables)) is None
