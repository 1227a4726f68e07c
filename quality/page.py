"""What a person hears of himself through the page in Chromium, how long that takes, and what it leaves in the worklet.

`make page-bench` starts this. PESQ (ITU-T P.862.2) is that of what the echo says back of what the microphone heard; the round trip is from
the worklet's input to its output, of packets that come straight back. Fails where a limit is missed.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import wave

import numpy as np
from scipy.signal import correlate, resample_poly

import material
import rooms

RECORDINGS = ["en-gb-48k", "de-24k", "cmn-16k"]
SCENARIO = pathlib.Path("crates/gateway/tests/page/measure.js")
LEAST_PESQ = 3.3
# The browser's echo canceller has its moods.
CALLS = 3
MOST_ROUND_TRIP = 300.0
# Bytes a quantum beside what the browser itself allocates to call the worklet. The smallest object has 12.
MOST_GARBAGE = 1.0
QUANTUM = 128


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=pathlib.Path, required=True, help="where cargo puts release programs")
    parser.add_argument("--seconds", type=int, default=60, help="how long the worklet is watched (default 60)")
    args = parser.parse_args()

    missed = []
    with tempfile.TemporaryDirectory() as folder, gateway(args.binaries / "evenkeel") as url:
        folder = pathlib.Path(folder)
        files = material.prepare(folder)
        print(f"| recording | PESQ (median of {CALLS} calls, least to most) | without echo cancellation |\n|---|---:|---:|", flush=True)
        for name in RECORDINGS:
            said = material.read(files[name])
            scores = sorted(echo(url, folder, said, "yes") for _ in range(CALLS))
            median, bare = scores[CALLS // 2], echo(url, folder, said, "no")
            print(f"| {name} | {median:.2f} ({scores[0]:.2f} to {scores[-1]:.2f}) | {bare:.2f} |", flush=True)
            missed += [f"PESQ of {name} is {median:.2f}; {LEAST_PESQ} is the least"] if median < LEAST_PESQ else []
        print("\n| a call in which each packet comes back | |\n|---|---:|")
        for name, value, why in loopback(url, folder, material.read(files[RECORDINGS[0]]), args.seconds):
            print(f"| {name} | {value} |")
            missed += [f"{name}: {value}; {why}"] if why else []
    if missed:
        raise SystemExit("page-bench: " + "\npage-bench: ".join(missed))


@contextlib.contextmanager
def gateway(program):
    """One with the echo room, on ports that are free."""
    free = ["mqtt.listen=127.0.0.1:0", "web.listen=127.0.0.1:0", "operations.listen=127.0.0.1:0", "media.udp_port=0"]
    settings = [part for setting in [*free, "room.loopback=true"] for part in ("--set", setting)]
    process = subprocess.Popen([program, "serve", "--json", *settings], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        pages = json.loads(process.stdout.readline())["pages"]
        if not pages:
            raise SystemExit("page-bench: this gateway was built without its page: make page")
        yield pages[0]
    finally:
        process.terminate()
        process.wait()


def browse(url, folder, microphone, *what):
    """What a scenario saw whose microphone plays these samples again and again."""
    file = folder / "microphone.wav"
    material.write(file, microphone)
    command = ["node", SCENARIO, shutil.which("chromium"), url, file, folder, *what]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    seen = json.loads(done.stdout.splitlines()[-1])
    if seen["errors"]:
        raise SystemExit("page-bench: errors of the page in {}: {}".format(what[0], seen["errors"]))
    return seen


def echo(url, folder, said, cancels):
    """PESQ of what comes back."""
    silence = lambda seconds: np.zeros(int(seconds * material.RATE))
    seen = browse(url, folder, np.concatenate([silence(2), said, silence(20)]), "echo", cancels)
    return rooms.score(said, at_rate(*read(seen["heard"]))[:, 0])


def loopback(url, folder, said, seconds):
    """Names and values, and why one is not as it must be."""
    speech = np.concatenate([said, np.zeros(material.RATE // 2)])
    seen = browse(url, folder, speech, "loopback", str(seconds))
    trips = round_trips(*read(seen["heard"]))
    median, longest = float(np.median(trips)), float(np.max(trips))
    quanta = seconds * seen["rate"] / QUANTUM
    idle = browse(url, folder, speech, "idle", str(seconds))
    each = (seen["garbage"] - idle["garbage"]) / quanta
    limit = lambda wrong, text: text if wrong else None
    yield "round trip, median", f"{median:.0f} ms", limit(median >= MOST_ROUND_TRIP, f"{MOST_ROUND_TRIP:.0f} ms is the most")
    yield "round trip, longest of {} half seconds of speech".format(len(trips)), f"{longest:.0f} ms", None
    yield "of it in the jitter buffer", f"{seen['buffer']:.0f} ms", None
    yield "underruns, from 20 s on", seen["underruns"], limit(seen["underruns"] > 0, "none may be")
    yield "concealed", seen["concealed"], None
    yield "packets lost or not sent", seen["lost"], None
    for what, settled in ("it", seen["settled"]), ("a worklet that does nothing", idle["settled"]):
        yield f"the browser had compiled {what} after", f"{settled} s", limit(settled is None, "allocations never ceased")
    yield f"quanta of the worklet in {seconds} s from there", f"{quanta:.0f}", None
    yield "bytes allocated in them", seen["garbage"], limit(each >= MOST_GARBAGE, f"{MOST_GARBAGE:.0f} a quantum more is the most")
    yield "bytes allocated where a worklet does nothing", idle["garbage"], None
    if seen["holes"]:
        yield "holes in the browser's output", "{events}, {seconds:.3f} s".format(**seen["holes"]), limit(seen["holes"]["events"] > 0, "none may be")


def round_trips(samples, rate):
    """From left to right, in ms: of each half second in which there is speech that can be found again."""
    left, right = samples[:, 0], samples[:, 1]
    window, most = rate // 2, rate // 2
    trips = []
    for start in range(20 * rate, len(left) - window - most, window):
        said = left[start : start + window]
        heard = right[start : start + window + most]
        if np.std(said) < 0.02:
            continue
        likeness = correlate(heard, said, mode="valid")
        lag = int(np.argmax(likeness))
        energy = np.sqrt(np.sum(said**2) * np.sum(heard[lag : lag + window] ** 2))
        if likeness[lag] > 0.8 * energy:
            trips.append(1000 * lag / rate)
    if len(trips) < 10:
        raise SystemExit("page-bench: what comes back is not what was said")
    return trips


def at_rate(samples, rate):
    divisor = int(np.gcd(material.RATE, rate))
    return resample_poly(samples, material.RATE // divisor, rate // divisor, axis=0)


def read(path):
    """Samples by channels, and their rate."""
    with wave.open(os.fspath(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 32768.0
        return samples.reshape(-1, file.getnchannels()), file.getframerate()


if __name__ == "__main__":
    main()
