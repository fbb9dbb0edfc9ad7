#!/usr/bin/env python3
"""Draws a dashboard as Grafana would, from what a real Prometheus has to say:

    scripts/monitoring/pictures.py BOARD.json PICTURE.png [--prometheus URL] [--minutes N] [--ago N]

For the documentation, so that a reader sees what an operator sees. Wants matplotlib
(`pip install -r scripts/monitoring/requirements.txt`). A panel whose query finds nothing is drawn as such.
"""

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
from matplotlib import dates, gridspec, pyplot, ticker  # noqa: E402

# Grafana's dark theme, roughly.
BACK, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#ccccdc", "#2c3235"
COLORS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#96d98d"]
STEPS = 120
# Prefixes of numbers: what they stand for.
DECIMAL = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]
BINARY = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")]
SECONDS = [(3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")]


def text_of(value, unit):
    """A value as a reader takes it in."""
    if value is None or math.isnan(value):
        return "-"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit in ("s", "dtdurations"):
        scale = SECONDS
    else:
        scale = BINARY if unit in ("bytes", "Bps", "binBps") else DECIMAL
    if value == 0:
        return "0"
    for size, name in scale:
        if abs(value) >= size:
            break
    rate = "/s" if unit in ("eps", "cps", "ops", "Bps", "binBps", "reqps", "pps") else ""
    return f"{value / size:.4g} {name}".strip() + rate


class Prometheus:
    """Whom to ask, and about which time."""

    def __init__(self, address, minutes, ago):
        self.address = address
        self.until = time.time() - ago * 60
        self.since = self.until - minutes * 60
        self.step = max((self.until - self.since) / STEPS, 1)

    def series(self, query):
        """What a query finds over the time: labels, times and values of each."""
        query = re.sub(r"\$[a-z]+", ".+", query.replace("$__rate_interval", "30s"))
        asked = urllib.parse.urlencode(
            {"query": query, "start": self.since, "end": self.until, "step": self.step}
        )
        with urllib.request.urlopen(f"{self.address}/api/v1/query_range?{asked}", timeout=30) as answer:
            found = json.load(answer)["data"]["result"]
        for one in found:
            times, values = zip(*one["values"])
            yield one["metric"], [float(at) for at in times], [float(value) for value in values]


def legend_of(pattern, labels):
    """Grafana's {{label}} with what it stands for."""
    for name, value in labels.items():
        pattern = pattern.replace("{{" + name + "}}", value)
    return pattern or ", ".join(f"{name}={value}" for name, value in labels.items())


def draw_stat(axes, panel, prometheus):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_axis_off()
    told = []
    for target in panel["targets"]:
        told += [values[-1] for _, _, values in prometheus.series(target["expr"]) if values]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    names = {"green": COLORS[0], "yellow": COLORS[1], "orange": COLORS[3], "red": COLORS[4]}
    value = told[0] if told else None
    color = FAINT
    if value is not None:
        reached = [step for step in steps if step["value"] is None or value >= step["value"]]
        color = names.get(reached[-1]["color"], COLORS[0])
    axes.text(0.5, 0.45, text_of(value, unit), color=color, size=20, ha="center", va="center")


def draw_lines(axes, panel, prometheus):
    defaults = panel["fieldConfig"]["defaults"]
    axes.grid(color=FAINT, linewidth=0.6)
    stacked = "stacking" in defaults.get("custom", {})
    lines = []
    for target in panel["targets"]:
        for labels, times, values in prometheus.series(target["expr"]):
            lines.append((legend_of(target["legendFormat"], labels), times, values))
    lines = lines[:12]
    if not lines:
        axes.text(0.5, 0.5, "no data", color=TEXT, ha="center", transform=axes.transAxes)
    base = {}
    for number, (legend, times, values) in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        below = [base.get(at, 0.0) if stacked else 0.0 for at in times]
        above = [low + (0.0 if math.isnan(value) else value) for low, value in zip(below, values)]
        shown = above if stacked else values
        when = [time_of(at) for at in times]
        axes.plot(when, shown, color=color, linewidth=1.2, label=legend)
        axes.fill_between(when, below, above, color=color, alpha=0.15 if not stacked else 0.35, linewidth=0)
        base.update(zip(times, above) if stacked else ())
    axes.set_xlim(time_of(prometheus.since), time_of(prometheus.until))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: text_of(value, defaults["unit"])))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6))
    axes.tick_params(colors=TEXT, labelsize=7, length=0)
    if lines:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=4, fontsize=6.5, frameon=False,
            labelcolor=TEXT, handlelength=1, columnspacing=1,
        )


def draw_heat(axes, panel, prometheus):
    target = panel["targets"][0]
    rows = []
    for labels, times, values in prometheus.series(target["expr"]):
        rows.append((float(labels.get("le", "inf")), times, values))
    rows.sort(key=lambda row: row[0])
    axes.tick_params(colors=TEXT, labelsize=7, length=0)
    if not rows:
        axes.text(0.5, 0.5, "no data", color=TEXT, ha="center", transform=axes.transAxes)
        return
    moments = sorted({at for _, times, _ in rows for at in times})
    cells, before = [], dict.fromkeys(moments, 0.0)
    for _, times, values in rows:
        now = dict(before)
        now.update(zip(times, values))
        cells.append([max(now[at] - before[at], 0.0) or math.nan for at in moments])
        before = now
    axes.imshow(
        cells, aspect="auto", origin="lower", cmap="inferno",
        extent=(time_of(moments[0]), time_of(moments[-1]), 0, len(rows)),
    )
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_yticks([number + 1 for number in range(len(rows))][::2])
    axes.set_yticklabels(["∞" if math.isinf(bound) else text_of(bound, unit) for bound, _, _ in rows][::2])
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6))


def time_of(seconds):
    """A moment as matplotlib counts it: days, in UTC."""
    return seconds / 86400


DRAWN = {"stat": draw_stat, "gauge": draw_stat, "timeseries": draw_lines, "heatmap": draw_heat}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("board")
    arguments.add_argument("picture")
    arguments.add_argument("--prometheus", default="http://127.0.0.1:9090")
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--ago", type=float, default=0, help="minutes since the picture's end")
    chosen = arguments.parse_args()
    with open(chosen.board, encoding="utf-8") as file:
        board = json.load(file)
    prometheus = Prometheus(chosen.prometheus, chosen.minutes, chosen.ago)
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    figure = pyplot.figure(figsize=(14, 0.34 * height + 0.6), facecolor=BACK)
    figure.suptitle(board["title"], color=TEXT, x=0.02, ha="left", size=13, y=1 - 0.2 / (0.34 * height))
    grid = gridspec.GridSpec(
        height, 24, figure=figure, left=0.045, right=0.985, top=1 - 0.5 / (0.34 * height + 0.6), bottom=0.03,
        wspace=1.6, hspace=0.2,
    )
    for panel in board["panels"]:
        place = panel["gridPos"]
        x, y, w, h = place["x"], place["y"], place["w"], place["h"]
        if panel["type"] == "row":
            axes = figure.add_subplot(grid[y : y + h, :])
            axes.set_axis_off()
            axes.text(0, 0.3, panel["title"], color=TEXT, size=10, weight="bold")
            continue
        last = y + h - (2 if panel["type"] != "stat" and h > 3 else 1)
        axes = figure.add_subplot(grid[y + 1 : last, x : x + w], facecolor=PANEL)
        for spine in axes.spines.values():
            spine.set_color(FAINT)
        axes.set_title(panel["title"], color=TEXT, size=8.5, loc="left", pad=4)
        DRAWN.get(panel["type"], draw_lines)(axes, panel, prometheus)
    figure.savefig(chosen.picture, dpi=80, facecolor=BACK)


if __name__ == "__main__":
    main()
