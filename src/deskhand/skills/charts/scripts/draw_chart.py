#!/usr/bin/env python3
"""Draw one chart of a table."""

import argparse
import csv
import json
import sys
from datetime import datetime
from pathlib import Path

try:
    import matplotlib
except ImportError:
    sys.exit("matplotlib is missing in this computer: charts cannot be drawn. Give the numbers as a table instead.")

matplotlib.use("Agg")
import matplotlib.pyplot as plt

KINDS = ("line", "bar", "barh", "scatter", "hist", "box", "pie")
COLOURS = ("#305496", "#C55A11", "#548235", "#7F6000", "#7030A0", "#00808A", "#A5002D", "#595959")


def read(path):
    """The rows of a file, as a list of dicts."""
    kind = path.suffix.lower()
    if kind == ".json":
        rows = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(rows, dict):
            rows = next((value for value in rows.values() if isinstance(value, list)), [])
        return [row for row in rows if isinstance(row, dict)]
    if kind in (".xlsx", ".xls"):
        try:
            import pandas
        except ImportError:
            sys.exit("pandas is missing in this computer: Excel files cannot be drawn. Use CSV.")
        return pandas.read_excel(path).to_dict("records")
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = file.read(4096)
        file.seek(0)
        delimiter = max(",;\t", key=head.count)
        return list(csv.DictReader(file, delimiter=delimiter))


def column(rows, name):
    if rows and name not in rows[0]:
        sys.exit(f"there is no column {name!r}; there are: {', '.join(map(str, rows[0]))}")
    return [row.get(name) for row in rows]


def number(value):
    """A cell as a number; None if it is none."""
    try:
        found = float(str(value).replace(",", "") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        return None
    return found if found == found else None


def place(values):
    """Places on the x axis: numbers or dates if all are, else names."""
    numbers = [number(value) for value in values]
    if all(value is not None for value in numbers):
        return numbers
    try:
        return [datetime.fromisoformat(str(value).strip()) for value in values]
    except ValueError:
        return [str(value) for value in values]


def series(rows, given):
    """Pairs of a label and its points, each an (x, y)."""
    names = given.y.split(",") if given.y else []
    if not names and given.aggregate != "count":
        sys.exit("--y is needed: the columns to draw")
    if given.group:
        kinds = list(dict.fromkeys(column(rows, given.group)))
        chosen = [(str(kind), [row for row in rows if row.get(given.group) == kind], names[:1]) for kind in kinds]
    else:
        chosen = [(name, rows, [name]) for name in names or ["count"]]
    found = []
    for label, part, measured in chosen:
        xs = column(part, given.x) if given.x else list(range(1, len(part) + 1))
        ys = [1.0] * len(part) if not measured or given.aggregate == "count" else map(number, column(part, measured[0]))
        points = [(x, y) for x, y in zip(xs, ys) if y is not None]
        found.append((label, joined(points, given.aggregate or ("sum" if given.group else None))))
    return found


def joined(points, how):
    """Points with one y for each x."""
    if how is None:
        return points
    at = {}
    for x, y in points:
        at.setdefault(x, []).append(y)
    return [(x, sum(ys) / len(ys) if how == "mean" else sum(ys)) for x, ys in at.items()]


def topped(points, most):
    """The largest points, and what is left as one more."""
    ranked = sorted(points, key=lambda point: -point[1])
    rest = sum(y for _, y in ranked[most:])
    return ranked[:most] + ([("other", rest)] if len(ranked) > most else [])


def draw(axes, kind, found):
    if kind == "hist":
        axes.hist([[y for _, y in points] for _, points in found], bins="auto", label=[label for label, _ in found])
    elif kind == "box":
        axes.boxplot([[y for _, y in points] for _, points in found])
        axes.set_xticks(range(1, len(found) + 1), [label for label, _ in found])
    elif kind == "pie":
        axes.pie(
            [y for _, y in found[0][1]], labels=[str(x) for x, _ in found[0][1]], autopct="%1.0f%%", colors=COLOURS
        )
    elif kind in ("bar", "barh"):
        bars(axes, kind, found)
    else:
        for label, points in found:
            style = (
                {"marker": "o", "markersize": 3} if kind == "line" else {"linestyle": "", "marker": "o", "alpha": 0.7}
            )
            axes.plot(place([x for x, _ in points]), [y for _, y in points], label=label, **style)


def bars(axes, kind, found):
    names = list(dict.fromkeys(str(x) for _, points in found for x, _ in points))
    width = 0.8 / len(found)
    for index, (label, points) in enumerate(found):
        heights = {str(x): y for x, y in points}
        at = [n + index * width - 0.4 + width / 2 for n in range(len(names))]
        (axes.bar if kind == "bar" else axes.barh)(at, [heights.get(name, 0) for name in names], width, label=label)
    if kind == "bar":
        long = sum(map(len, names)) > 70
        axes.set_xticks(range(len(names)), names, rotation=45 if long else 0, ha="right" if long else "center")
    else:
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--x")
    parser.add_argument("--y", help="column, or several with commas")
    parser.add_argument("--group")
    parser.add_argument("--aggregate", choices=("sum", "mean", "count"))
    parser.add_argument("--top", type=int)
    parser.add_argument("--title", default="")
    parser.add_argument("--xlabel")
    parser.add_argument("--ylabel")
    parser.add_argument("--size", default="9x5", help="inches, WxH")
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def main():
    given = arguments()
    found = series(read(given.data), given)
    if given.top:
        found = [(label, topped(points, given.top)) for label, points in found]
    found = [(label, points) for label, points in found if points]
    if not found:
        sys.exit("there is nothing to draw: no row has a number there")
    plt.rcParams["axes.prop_cycle"] = plt.cycler(color=COLOURS)
    width, _, height = given.size.partition("x")
    figure, axes = plt.subplots(figsize=(float(width), float(height)))
    draw(axes, given.kind, found)
    axes.set_title(given.title, loc="left", fontweight="bold")
    if given.kind != "pie":
        flat = given.kind == "barh"
        measured = given.ylabel if given.ylabel is not None else (given.y or "count")
        axes.set_xlabel(measured if flat else given.xlabel if given.xlabel is not None else given.x or "")
        axes.set_ylabel((given.xlabel or given.x or "") if flat else measured)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x" if flat else "y", alpha=0.3)
        axes.set_axisbelow(True)
        if len(found) > 1 and given.kind != "box":
            axes.legend(frameon=False)
    if given.kind == "line":
        figure.autofmt_xdate()
    figure.savefig(given.output, dpi=150, bbox_inches="tight")
    values = [y for _, points in found for _, y in points]
    print(
        f"{given.output}: {given.kind}, {len(found)} series, {len(values)} points, {min(values):g} to {max(values):g}"
    )


if __name__ == "__main__":
    main()
