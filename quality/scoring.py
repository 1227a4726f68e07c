"""Runs the audio path and bare libopus on recordings, and scores what comes out against what went in."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import subprocess
import tempfile

import numpy as np
import pesq
import pystoi
from scipy.signal import resample_poly

import material

PESQ_RATE = 16_000  # of wide-band PESQ (ITU-T P.862.2)
FRAME = 0.02
# Longer than any burst: how the listener's delay adapts moves the sound in time, which STOI takes for noise.
PATIENCE_MS = 500


@dataclasses.dataclass(frozen=True)
class Setting:
    """How to code, and what to lose; `seeds` are the networks to try."""

    complexity: int = 5
    rung: str = "full"
    rate: int = material.RATE
    loss: int = 0
    burst: int = 0
    fec: bool = False
    seeds: tuple = (1,)

    def options(self, seed):
        """As both programs take them."""
        options = ["--bitrate", "24000", "--complexity", str(self.complexity), "--frame", "20"]
        options += ["--loss", str(self.loss), "--seed", str(seed), "--expected-loss", str(self.loss if self.fec else 0)]
        options += ["--burst", str(self.burst)] if self.burst else []
        return options + (["--fec"] if self.fec else [])


@dataclasses.dataclass(frozen=True)
class Score:
    pesq: float
    stoi: float
    kbps: float = 0.0


@dataclasses.dataclass(frozen=True)
class Result:
    """Means over recordings and seeds, and how far path and bare codec were apart where they were furthest."""

    path: Score
    bare: Score
    furthest: Score

    @classmethod
    def of(cls, pairs):
        paths, bares = [path for path, _ in pairs], [bare for _, bare in pairs]
        worse = [(bare.pesq - path.pesq, bare.stoi - path.stoi) for path, bare in pairs]
        furthest = Score(*(max(values) for values in zip(*worse)))
        return cls(mean(paths), mean(bares), furthest)


def mean(scores):
    fields = (field.name for field in dataclasses.fields(Score))
    return Score(*(float(np.mean([getattr(score, field) for score in scores])) for field in fields))


class Programs:
    """The two programs, and the recordings they are tried on."""

    def __init__(self, binaries, folder, only=None):
        self.path = binaries / "evenkeel"
        self.bare = binaries / "examples" / "bare_opus"
        files = material.prepare(folder)
        self.files = {name: file for name, file in files.items() if only is None or name in only}

    def measure(self, settings):
        """A result per setting, with a core's worth of work on every core."""
        jobs = [(i, file, seed) for i, setting in enumerate(settings) for file in self.files.values() for seed in setting.seeds]
        pairs = [[] for _ in settings]
        with concurrent.futures.ProcessPoolExecutor() as pool:
            futures = [(i, pool.submit(self.compare, settings[i], file, seed)) for i, file, seed in jobs]
            for i, future in futures:
                pairs[i].append(future.result())
        return [Result.of(pair) for pair in pairs]

    def compare(self, setting, file, seed):
        """Path and bare codec on one recording, over networks that lose the same packets."""
        with tempfile.TemporaryDirectory() as folder:
            heard = pathlib.Path(folder) / "heard.wav"
            options = [file, "--to", heard, *setting.options(seed)]
            lost_at_first = int(output([self.bare, *options]))
            reference = material.read(file)[round(lost_at_first * FRAME * material.RATE) :]
            bare = score(reference, material.read(heard), material.RATE)
            command = [self.path, "process", *options, "--json", "--rung", setting.rung, "--rate", setting.rate]
            report = json.loads(output([*command, "--wait", PATIENCE_MS]))
            path = score(reference, material.read(heard, setting.rate), setting.rate)
            return dataclasses.replace(path, kbps=report["coding"]["bitrate_bps"] / 1e3), bare


def output(command):
    command = [os.fspath(part) if isinstance(part, os.PathLike) else str(part) for part in command]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"quality: {' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def score(reference, heard, rate):
    """Both programs leave their own delay out, so that nothing has to be searched for."""
    reference, heard = to_pesq_rate(reference, material.RATE), to_pesq_rate(heard, rate)
    samples = min(len(reference), len(heard))
    reference, heard = reference[:samples], heard[:samples]
    return Score(
        pesq=float(pesq.pesq(PESQ_RATE, reference, heard, "wb")),
        stoi=float(pystoi.stoi(reference, heard, PESQ_RATE)),
    )


def to_pesq_rate(samples, rate):
    return samples if rate == PESQ_RATE else resample_poly(samples, PESQ_RATE, rate)
