//! The one low-pass that every pair of rates uses.
//!
//! Every pair asks the same of its filter once frequency is counted in units of the lower Nyquist frequency and time
//! in samples of the lower rate: keep what is below 0.9, be gone at 1.1, and be short. So there is one kernel, a
//! function of continuous time, and a pair samples it on its own grid. It is symmetric, which makes the phase linear
//! and the delay the same at every frequency.
//!
//! A windowed sinc of this length does not reach the stop band, so this is the optimum: a linear program (Rabiner,
//! "The Design of Finite Impulse Response Digital Filters Using Linear Programming Techniques", 1972), which
//! `bench/resample_prototype.py` states and solves.

/// Where the kernel ends on either side of its centre, in samples of the lower rate.
pub(super) const HALF_LENGTH: usize = 16;

/// Half a Fourier series over the length of the kernel.
const COSINES: [f64; 20] = [
    0.031250000,
    0.062857023,
    0.062150375,
    0.062804721,
    0.062258285,
    0.062665254,
    0.062420189,
    0.062489981,
    0.062597110,
    0.062325052,
    0.062738288,
    0.062215674,
    0.062802204,
    0.062243631,
    0.061456650,
    0.040904038,
    0.011495940,
    0.000668302,
    0.000000993,
    -0.000003641,
];

/// The kernel at `t` samples of the lower rate from its centre. Its integral is 1.
pub(super) fn kernel(t: f64) -> f64 {
    let half_length = HALF_LENGTH as f64;
    if t.abs() >= half_length {
        return 0.0;
    }
    let cosine = (core::f64::consts::PI * t / half_length).cos();
    // Clenshaw's recurrence sums a cosine series with a single cosine.
    let (b1, b2) = COSINES[1..].iter().rev().fold((0.0, 0.0), |(b1, b2), a| (a + 2.0 * cosine * b1 - b2, b1));
    COSINES[0] + cosine * b1 - b2
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::f64::consts::PI;

    /// The spectrum at `f` times the lower Nyquist frequency, from the Fourier series itself.
    fn spectrum(f: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        let half_length = HALF_LENGTH as f64;
        let term = |k: usize| sinc(k as f64 - f * half_length) + sinc(k as f64 + f * half_length);
        COSINES.iter().enumerate().map(|(k, a)| half_length * a * term(k)).sum()
    }

    fn db(x: f64) -> f64 {
        20.0 * x.abs().max(1e-12).log10()
    }

    #[test]
    fn passes_below_and_stops_above() {
        for step in 0..=800 {
            let f = f64::from(step) / 1000.0;
            assert!(db(spectrum(f)).abs() < 0.051, "{f}: {} dB", db(spectrum(f)));
        }
        assert!(db(spectrum(0.9)) > -0.95);
        for step in 1100..20_000 {
            let f = f64::from(step) / 1000.0;
            assert!(db(spectrum(f)) < -82.0, "{f}: {} dB", db(spectrum(f)));
        }
    }

    #[test]
    fn is_symmetric_continuous_and_of_the_summed_series() {
        assert!(kernel(HALF_LENGTH as f64 - 1e-9).abs() < 1e-7);
        assert_eq!(kernel(HALF_LENGTH as f64), 0.0);
        for step in 0..160 {
            let t = f64::from(step) / 10.0;
            let series = |(k, a): (usize, &f64)| a * (PI * k as f64 * t / HALF_LENGTH as f64).cos();
            let sum: f64 = COSINES.iter().enumerate().map(series).sum();
            assert!((kernel(t) - sum).abs() < 1e-12);
            assert_eq!(kernel(t), kernel(-t));
        }
    }
}
