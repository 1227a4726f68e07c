//! The inner loops. They are plain Rust, in shapes that compilers turn into vector instructions.
//!
//! Whatever the chunking, a given output is summed in the same order, so that it has the same bits: the loops for
//! several outputs at once and those for a single one at the ends of a chunk differ only in speed.

use super::bank::{Bank, Four};

/// Where the next output is: `phase` ticks after input `index`, the newest that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) index: usize,
    pub(super) phase: usize,
}

impl Position {
    pub(super) fn at_tick(bank: &Bank, tick: usize) -> Self {
        Self { index: tick / bank.up, phase: tick % bank.up }
    }

    pub(super) fn tick(self, bank: &Bank) -> usize {
        self.index * bank.up + self.phase
    }

    #[inline(always)]
    fn advance(&mut self, bank: &Bank) {
        self.phase += bank.down;
        while self.phase >= bank.up {
            self.phase -= bank.up;
            self.index += 1;
        }
    }
}

/// Computes as many outputs as `out` holds. `line[index..][..bank.taps()]` are the inputs that end with `index`.
pub(super) fn convolve(bank: &Bank, line: &[f32], at: Position, out: &mut [f32]) {
    match (bank.up, bank.down) {
        (1, _) => decimate(bank, &line[at.index..], out),
        (_, 1) => interpolate(bank, line, at, out),
        _ => rational(bank, line, at, out),
    }
}

/// Integer ratios down: a single row, and four outputs share what is loaded of it.
fn decimate(bank: &Bank, line: &[f32], out: &mut [f32]) {
    let row = bank.row(0);
    let window = |output: usize| &line[output * bank.down..][..bank.taps()];
    let (fours, rest) = out.as_chunks_mut::<4>();
    for (n, out) in fours.iter_mut().enumerate() {
        let n = n * 4;
        *out = totals(&dots([row; 4], [window(n), window(n + 1), window(n + 2), window(n + 3)]));
    }
    let done = fours.len() * 4;
    for (n, out) in rest.iter_mut().enumerate() {
        [*out] = totals(&dots([row], [window(done + n)]));
    }
}

/// Integer ratios up: the outputs of one phase are an ordinary convolution of the input, so neighbours share weights.
fn interpolate(bank: &Bank, line: &[f32], at: Position, out: &mut [f32]) {
    let to_next_input = (bank.up - at.phase) % bank.up;
    let (head, out) = out.split_at_mut(to_next_input.min(out.len()));
    for (n, out) in head.iter_mut().enumerate() {
        *out = single(bank, &line[at.index..], at.phase + n);
    }
    let line = &line[at.index + usize::from(at.phase > 0)..];
    let done = interpolate_inputs::<16>(bank, line, 0, out);
    let done = interpolate_inputs::<4>(bank, line, done, out);
    for (n, out) in out.iter_mut().enumerate().skip(done * bank.up) {
        *out = single(bank, &line[n / bank.up..], n % bank.up);
    }
}

/// All phases of `N` inputs at a time, from input `start` on. Returns the input where it stopped.
#[inline(always)]
fn interpolate_inputs<const N: usize>(bank: &Bank, line: &[f32], start: usize, out: &mut [f32]) -> usize {
    let mut input = start;
    for out in out[start * bank.up..].chunks_exact_mut(N * bank.up) {
        let inputs = &line[input..][..bank.taps() + N - 1];
        for phase in 0..bank.up {
            let mut sums = [0.0; N];
            for (weight, x) in bank.row(phase).as_flattened().iter().zip(inputs.windows(N)) {
                for n in 0..N {
                    sums[n] += weight * x[n];
                }
            }
            for (out, sum) in out.chunks_exact_mut(bank.up).zip(sums) {
                out[phase] = sum;
            }
        }
        input += N;
    }
    input
}

fn single(bank: &Bank, line: &[f32], phase: usize) -> f32 {
    bank.row(phase).as_flattened().iter().zip(line).fold(0.0, |sum, (weight, x)| sum + weight * x)
}

/// Every other ratio: each output has its own row and window.
fn rational(bank: &Bank, line: &[f32], mut at: Position, out: &mut [f32]) {
    let mut next = || {
        let inputs = (bank.row(at.phase), &line[at.index..][..bank.taps()]);
        at.advance(bank);
        inputs
    };
    let (fours, rest) = out.as_chunks_mut::<4>();
    for out in fours {
        let [a, b, c, d] = [next(), next(), next(), next()];
        *out = totals(&dots([a.0, b.0, c.0, d.0], [a.1, b.1, c.1, d.1]));
    }
    for out in rest {
        let (row, window) = next();
        [*out] = totals(&dots([row], [window]));
    }
}

/// `N` dot products side by side, each as four partial sums.
#[inline(always)]
fn dots<const N: usize>(rows: [&[Four]; N], windows: [&[f32]; N]) -> [Four; N] {
    let fours = rows[0].len();
    let rows = rows.map(|row| &row[..fours]);
    let windows = windows.map(|window| &window.as_chunks::<4>().0[..fours]);
    let mut sums = [[0.0; 4]; N];
    for k in 0..fours {
        for n in 0..N {
            for lane in 0..4 {
                sums[n][lane] += rows[n][k][lane] * windows[n][k][lane];
            }
        }
    }
    sums
}

/// Kept out of line: seen together with [`dots`], the pairwise sums here make LLVM vectorise by twos throughout, at
/// three times the cost.
#[inline(never)]
fn totals<const N: usize>(sums: &[Four; N]) -> [f32; N] {
    sums.map(|[a, b, c, d]| (a + b) + (c + d))
}
