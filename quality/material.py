"""Speech to measure with: the real voices of Debian's alsa-utils, and the committed clips, as 48 kHz mono WAV."""

import os
import pathlib
import subprocess
import wave

import numpy as np

CLIPS = pathlib.Path("testdata/clips")
VOICES = pathlib.Path("/usr/share/sounds/alsa")
RATE = 48_000

# PESQ and STOI are models of speech; the chords are none, and the stereo clip has another voice on either side.
NOT_SPEECH = ("chords-stereo-44k1.ogg", "en-us-stereo-32k.wav")


def prepare(folder):
    """Writes the material into `folder`; gives the files by name."""
    files = {"voices": folder / "voices.wav"}
    write(files["voices"], np.concatenate([read(voice) for voice in voices()]))
    for clip in sorted(CLIPS.iterdir()):
        if clip.suffix != ".md" and clip.name not in NOT_SPEECH:
            name = clip.stem
            files[name] = folder / f"{name}.wav"
            convert(clip, files[name])
    return files


def voices():
    """The eight words that people spoke, one after the other: short as they are, PESQ wants more than one of them."""
    found = sorted(voice for voice in VOICES.glob("*.wav") if voice.stem != "Noise")
    if not found:
        raise SystemExit(f"quality: no real voices in {VOICES} (Debian: apt install alsa-utils)")
    return found


def convert(source, target):
    command = ["ffmpeg", "-v", "error", "-y", "-i", os.fspath(source), "-ar", str(RATE), "-ac", "1", os.fspath(target)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def read(path, rate=RATE):
    """16-bit mono samples as floats."""
    with wave.open(os.fspath(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (rate, 1, 2):
            raise ValueError(f"{path} is not 16-bit mono at {rate} Hz")
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2") / 32768.0


def write(path, samples):
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32768.0).round().astype("<i2").tobytes())
