"""What is heard of speech that passes a LiveKit room and the gateway, against the same Opus packets decoded before it.

`tools/livekit quality` records and scores. PESQ (ITU-T P.862.2) against what was said; fails if the gateway costs over 0.1.
"""

import pathlib
import sys

import numpy as np
import pesq
from scipy.signal import correlate, resample_poly

RATE = 48_000
PESQ_RATE = 16_000
MOST = 0.1


def main():
    folder = pathlib.Path(sys.argv[1])
    said = read(folder / "said.pcm")
    print("| | decoded before the gateway | after it | difference |\n|---|---|---|---|")
    worst = 0.0
    for way, name in [("down", "agent speaks, device hears"), ("up", "device speaks, agent hears")]:
        direct, through = (score(said, read(folder / f"{way}-{end}.pcm")) for end in ["direct", "through"])
        print(f"| {name} | {direct:.2f} | {through:.2f} | {through - direct:+.2f} |")
        worst = max(worst, direct - through)
    if worst > MOST:
        raise SystemExit(f"quality: the gateway costs {worst:.2f} PESQ; {MOST} is the most")


def read(path):
    return np.fromfile(path, "<i2").astype(np.float64) / 32768


def score(said, heard):
    said, heard = (resample_poly(samples, PESQ_RATE, RATE) for samples in (said, heard))
    # Where it begins depends on who was in the room first.
    lag = int(np.argmax(correlate(heard, said, method="fft"))) - (len(said) - 1)
    heard = heard[lag:] if lag >= 0 else np.concatenate([np.zeros(-lag), heard])
    heard = np.pad(heard, (0, max(0, len(said) - len(heard))))[: len(said)]
    return float(pesq.pesq(PESQ_RATE, said, heard, "wb"))


if __name__ == "__main__":
    main()
