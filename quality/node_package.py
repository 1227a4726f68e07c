"""What is heard of speech by way of the Node.js package, and by way of the Node.js peer. See `make node-bench`.

The package is asked for so many bits that it spends no more than the peer does on the same recording. PESQ (ITU-T
P.862.2) finds the delay of each by itself.
"""

import argparse
import json
import pathlib
import re
import tempfile

import numpy as np

import material
import peers
import scoring

ASKED = 24_000
# How far below the peer's bit rate the package's may be, and how often that is tried for.
TOLERANCE = 0.005
TRIES = 6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", type=pathlib.Path, required=True, help="the program that codes by the package")
    parser.add_argument("--json", action="store_true", help="figures instead of a table")
    args = parser.parse_args()

    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, file in sorted(material.prepare(folder).items()):
            peer = peers.peer(file, folder / "peer.wav")
            rows[name] = (*peer, *package(args.listen, file, folder / "package.wav", peer[1]))
    mean = np.mean(list(rows.values()), axis=0)
    if args.json:
        recordings = [{"recording": name, **figures(row)} for name, row in rows.items()]
        print(json.dumps({"recordings": recordings, "mean": figures(mean)}))
        return
    print("| recording | Node.js PESQ | kb/s | evenkeel PESQ | kb/s |\n|---|---|---|---|---|")
    for name, row in [*rows.items(), ("mean", mean)]:
        print(peers.line(name, row))


def figures(row):
    keys = ("pesq", "kbps")
    peer, own = (dict(zip(keys, map(float, half))) for half in (row[:2], row[2:]))
    return {"peer": peer, "package": own}


def package(listen, file, heard, kbps):
    """PESQ at a bit rate of at most `kbps`, as near to it as the encoder comes."""
    asked, best = ASKED, None
    for _ in range(TRIES):
        said = scoring.output(["node", listen, file, heard, round(asked)])
        spent = float(re.search(r"([\d.]+) kb/s", said)[1])
        if spent <= kbps and (best is None or spent > best[1]):
            best = (peers.quality(file, heard, peers.PEER_RATE), spent)
        if kbps * (1 - TOLERANCE) <= spent <= kbps:
            break
        asked *= kbps * (1 - TOLERANCE / 2) / spent
    if best is None:
        raise SystemExit(f"quality: the package cannot be held to {kbps} kb/s on {file.name}")
    return best


if __name__ == "__main__":
    main()
