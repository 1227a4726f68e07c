"""What is heard of speech by way of evenkeel, and by way of the Node.js peer: PESQ and bit rate. See `make peers`.

Both are asked for 24 kb/s at complexity 5. PESQ (ITU-T P.862.2) finds the delay of each by itself.
"""

import argparse
import json
import pathlib
import re
import tempfile

import numpy as np
import pesq

import material
import scoring

PEER = pathlib.Path(__file__).parent.parent / "bench/peers/node/run.mjs"
PEER_RATE = 24_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="where cargo puts release programs")
    args = parser.parse_args()

    print("| recording | Node.js PESQ | kb/s | evenkeel PESQ | kb/s |\n|---|---|---|---|---|")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, file in sorted(material.prepare(folder).items()):
            rows.append((*peer(file, folder / "peer.wav"), *path(args.binaries / "evenkeel", file, folder / "path.wav")))
            print(line(name, rows[-1]))
    print(line("mean", np.mean(rows, axis=0)))


def line(name, row):
    return "| {} | {:.2f} | {:.1f} | {:.2f} | {:.1f} |".format(name, *row)


def peer(file, heard):
    said = scoring.output(["node", PEER, "--complexity", "5", "--wav", file, "--out", heard])
    return quality(file, heard, PEER_RATE), float(re.search(r"([\d.]+) kb/s", said)[1])


def path(evenkeel, file, heard):
    options = scoring.Setting(complexity=5).options(seed=1)
    report = json.loads(scoring.output([evenkeel, "process", file, "--to", heard, "--json", *options]))
    return quality(file, heard, material.RATE), report["coding"]["bitrate_bps"] / 1e3


def quality(file, heard, rate):
    reference = scoring.to_pesq_rate(material.read(file), material.RATE)
    return pesq.pesq(scoring.PESQ_RATE, reference, scoring.to_pesq_rate(material.read(heard, rate), rate), "wb")


if __name__ == "__main__":
    main()
