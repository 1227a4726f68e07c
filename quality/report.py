"""The figures for people: a Markdown table per question, and a plot."""

HEADINGS = {
    "complexity": "By complexity, nothing lost",
    "rung": "The rungs below",
    "rate": "Resampled before coding, or left to the codec",
    "loss": "With packets lost",
}


def label(group, setting):
    if group == "complexity":
        return f"full/{setting.complexity}"
    if group == "rung":
        return f"full/{setting.complexity}" if setting.rung == "full" else setting.rung
    if group == "rate":
        return f"{setting.rate / 1000:g} kHz"
    kind = f"bursts of {setting.burst}" if setting.burst else "random"
    return f"{setting.loss} % {kind}, FEC {'on' if setting.fec else 'off'}"


def markdown(measured, recordings, bounds):
    lines = [
        "# Quality",
        "",
        "Written by `make quality`. Speech at 48 kHz, VOIP, 24 kb/s asked, packets of 20 ms, complexity 5 where nothing else is",
        f"said; means over {', '.join(recordings)}. PESQ is wide-band (ITU-T P.862.2).",
        "",
        "*Below bare* is how far the path is below bare libopus on the recording where it is furthest; `make quality` fails at",
        f"more than {bounds[0]} (PESQ) or {bounds[1]} (STOI), at equal settings.",
    ]
    for group, rows in measured.items():
        lines += ["", f"## {HEADINGS[group]}", "", *table(group, rows)]
    return "\n".join(lines) + "\n"


def table(group, rows):
    is_compared = group in ("complexity", "loss")
    compared = ["PESQ bare", "below bare", "STOI bare", "below bare"] if is_compared else []
    yield row(["", "kb/s", "PESQ", "STOI", *compared])
    yield row(["---"] + ["---:"] * (3 + len(compared)))
    for setting, result in rows:
        cells = [label(group, setting), f"{result.path.kbps:.1f}", f"{result.path.pesq:.3f}", f"{result.path.stoi:.4f}"]
        if is_compared:
            bare, below = result.bare, result.furthest
            cells += [f"{bare.pesq:.3f}", f"{below.pesq:.3f}", f"{bare.stoi:.4f}", f"{below.stoi:.4f}"]
        yield row(cells)


def row(cells):
    return "| " + " | ".join(cells) + " |"


WIDTH, ROW, LEFT, RIGHT, TOP = 720, 18, 210, 60, 40
WORST, BEST = 1.0, 4.65


def svg(measured):
    """PESQ of the path as a bar, of the bare codec as a line across it."""
    parts, y = [], TOP
    for group, rows in measured.items():
        parts.append(f'<text x="{LEFT}" y="{y}" class="heading">{HEADINGS[group]}</text>')
        y += 8
        for setting, result in rows:
            parts += bar(y, label(group, setting), result, group in ("complexity", "loss"))
            y += ROW
        y += 26
    for pesq in (1, 2, 3, 4):
        parts.append(f'<line x1="{at(pesq)}" x2="{at(pesq)}" y1="{TOP + 6}" y2="{y - 22}" class="grid"/>')
        parts.append(f'<text x="{at(pesq)}" y="{y - 8}" text-anchor="middle">{pesq}</text>')
    style = (
        "text{font:12px sans-serif;fill:#333}.heading{font-weight:bold}.path{fill:#3b7ea1}"
        ".bare{stroke:#c0392b;stroke-width:2}.grid{stroke:#ccc;stroke-dasharray:2 3}"
    )
    title = "PESQ of the audio path (bars) and of bare libopus (red lines)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" aria-label="{title}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="{LEFT}" y="18">{title}</text>{"".join(parts)}</svg>\n'
    )


def bar(y, name, result, is_compared):
    end = at(result.path.pesq)
    yield f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{name}</text>'
    yield f'<rect x="{LEFT}" y="{y}" width="{end - LEFT}" height="{ROW - 4}" class="path"/>'
    yield f'<text x="{end + 8}" y="{y + 12}">{result.path.pesq:.2f}</text>'
    if is_compared:
        bare = at(result.bare.pesq)
        yield f'<line x1="{bare}" x2="{bare}" y1="{y - 1}" y2="{y + ROW - 3}" class="bare"/>'


def at(pesq):
    return round(LEFT + (pesq - WORST) / (BEST - WORST) * (WIDTH - LEFT - RIGHT), 1)
