"""Designs the low-pass of crates/core/src/resample/prototype.rs and prints its coefficients.

Needs numpy and scipy. The kernel is h(t) = sum of a[k] cos(pi k t / T) on |t| < T, zero outside, with t in samples of
the lower rate. Its spectrum is linear in a[k], so the a[k] with the lowest stop band are a linear program:

  minimise s over a[k], subject to, with f in units of the lower Nyquist frequency,
    |H(f) - 1| <= RIPPLE          0 <= f <= 0.8      pass band
    H(f) <= 1 + RIPPLE          0.8 <= f <= 1.1      no bump on the way down
    H(0.9) >= EDGE                                   what a voice keeps
    |H(f)| <= s (1.1 / f)^2     1.1 <= f <= 12       falls, so that the images of a sampled h cannot add up
    H(0) = 1
    h(T) = 0                                         continuous, so that it keeps falling beyond 12
"""

import numpy as np
from scipy.optimize import linprog

HALF_LENGTH = 16.0
TERMS = 20
RIPPLE = 10 ** (0.05 / 20) - 1
EDGE = 10 ** (-0.9 / 20)


def spectrum(f):
    """One row per frequency: what each cosine contributes there."""
    f = np.asarray(f, float)[:, None] * HALF_LENGTH
    k = np.arange(TERMS)[None, :]
    return HALF_LENGTH * (np.sinc(k - f) + np.sinc(k + f))


def design():
    scale = 1e4  # lifts the stop band over the solver's tolerance
    stop_f = np.concatenate([np.linspace(1.1, 2.4, 700), np.linspace(2.4, 12, 1200)[1:]])
    passing, falling, edge = spectrum(np.linspace(0, 0.8, 200)), spectrum(np.linspace(0.8, 1.1, 60)), spectrum([0.9])
    stop = spectrum(stop_f) * (stop_f[:, None] / 1.1) ** 2 * scale
    rows = [
        (passing, 1 + RIPPLE, 0),
        (-passing, -(1 - RIPPLE), 0),
        (stop, 0, -1),
        (-stop, 0, -1),
        (-edge, -EDGE, 0),
        (falling, 1 + RIPPLE, 0),
    ]
    found = linprog(
        np.r_[np.zeros(TERMS), 1],
        A_ub=np.vstack([np.hstack([m, np.full((len(m), 1), s)]) for m, _, s in rows]),
        b_ub=np.concatenate([np.full(len(m), b) for m, b, _ in rows]),
        A_eq=[np.r_[spectrum([0])[0], 0], np.r_[(-1.0) ** np.arange(TERMS), 0]],
        b_eq=[1, 0],
        bounds=[(None, None)] * TERMS + [(0, None)],
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9},
    )
    assert found.status == 0, found.message
    return found.x[:TERMS], 20 * np.log10(found.x[-1] / scale)


if __name__ == "__main__":
    coefficients, stop_band = design()
    print(f"stop band {stop_band:.1f} dB")
    print("\n".join(f"    {a:.9f}," for a in coefficients))
