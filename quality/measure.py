"""What the audio path does to speech, beside bare libopus: a table, a plot, and an exit code. See `make quality`.

PESQ is wide-band (ITU-T P.862.2), STOI is Taal et al., 2011. The same samples go through `evenkeel process` and through
libopus with nothing around it; where packets are lost, both lose the same ones, and the bare codec has a receiver that
knows what is still to come.
"""

import argparse
import pathlib
import sys
import tempfile

import report
import scoring
from scoring import Setting

# How much worse than the bare codec the path may be on any one recording.
BOUND_PESQ = 0.02
BOUND_STOI = 0.002

COMPLEXITIES = [0, 3, 5, 7, 10]
LOSSES = [5, 10, 20]
MEAN_BURST = 3
SEEDS = (1, 2, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="where cargo puts release programs")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"), help="folder to write into")
    parser.add_argument("--quick", action="store_true", help="one recording and a few settings, to see that all works")
    args = parser.parse_args()

    groups = settings(args.quick)
    args.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        programs = scoring.Programs(args.binaries, pathlib.Path(folder), only=["en-gb-48k"] if args.quick else None)
        results = iter(programs.measure([setting for group in groups.values() for setting in group]))
    measured = {name: [(setting, next(results)) for setting in group] for name, group in groups.items()}

    text = report.markdown(measured, sorted(programs.files), (BOUND_PESQ, BOUND_STOI))
    (args.out / "quality.md").write_text(text, encoding="utf-8")
    (args.out / "quality.svg").write_text(report.svg(measured), encoding="utf-8")
    print(text)
    print(f"Written: {args.out}/quality.md, {args.out}/quality.svg")
    broken = list(breaches(measured))
    for breach in broken:
        print(f"quality: {breach}", file=sys.stderr)
    return 1 if broken else 0


def settings(quick):
    """What to measure, by the heading it comes under."""
    if quick:
        return {
            "complexity": [Setting(complexity=5)],
            "rung": [Setting(rung="medium")],
            "rate": [Setting(rate=24_000)],
            "loss": [Setting(loss=10, burst=MEAN_BURST, fec=True)],
        }
    loss = [
        Setting(loss=loss, burst=burst, fec=fec, seeds=SEEDS)
        for burst in (0, MEAN_BURST)
        for fec in (False, True)
        for loss in LOSSES
    ]
    return {
        "complexity": [Setting(complexity=complexity) for complexity in COMPLEXITIES],
        "rung": [Setting(complexity=0), Setting(rung="medium"), Setting(rung="minimal")],
        "rate": [Setting(rate=rate) for rate in (48_000, 24_000, 16_000)],
        "loss": loss,
    }


def breaches(measured):
    """Where the path is further below the bare codec than it may be, at the same settings."""
    for group in ("complexity", "loss"):
        for setting, result in measured[group]:
            for name, bound in (("pesq", BOUND_PESQ), ("stoi", BOUND_STOI)):
                below = getattr(result.furthest, name)
                if below > bound:
                    yield f"{report.label(group, setting)}: {name.upper()} is {below:.4f} below bare libopus (at most {bound})"


if __name__ == "__main__":
    sys.exit(main())
