//! Recordings of 16 bits, and whether one is heard in another.

use std::path::Path;

/// Samples of a WAV file, one channel, and its rate.
pub fn read_wav(path: &Path) -> (Vec<i16>, u32) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!((&bytes[..4], &bytes[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]), "{}", path.display());
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let data = 12 + bytes[12..].windows(4).position(|name| name == b"data").unwrap();
    let end = data + 8 + number(data + 4) as usize;
    assert_eq!(end, bytes.len(), "as long as it says");
    let samples = bytes[data + 8..].chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]]));
    (samples.collect(), number(24))
}

/// Writes a WAV file of one channel.
pub fn write_wav(path: &Path, samples: &[i16], rate: u32) {
    let length = 2 * samples.len() as u32;
    let mut out = [&b"RIFF"[..], &(36 + length).to_le_bytes(), b"WAVEfmt \x10\0\0\0\x01\0\x01\0"].concat();
    out.extend([rate.to_le_bytes(), (2 * rate).to_le_bytes()].concat());
    out.extend([&b"\x02\0\x10\0data"[..], &length.to_le_bytes()].concat());
    out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    std::fs::write(path, out).unwrap();
}

/// How alike `said` and the part of `heard` that is most like it are in how loud they are when, 1 for the same.
pub fn likeness((said, said_rate): (&[i16], u32), (heard, heard_rate): (&[i16], u32)) -> f64 {
    let (said, heard) = (loudness(said, said_rate), loudness(heard, heard_rate));
    heard.windows(said.len()).map(|part| correlation(&said, part)).fold(0.0, f64::max)
}

/// Of each 10 ms.
fn loudness(samples: &[i16], rate: u32) -> Vec<f64> {
    let power = |part: &[i16]| part.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / part.len() as f64;
    samples.chunks_exact(rate as usize / 100).map(|part| power(part).sqrt()).collect()
}

/// Pearson's.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        (ab, aa, bb) = (ab + a * b, aa + a * a, bb + b * b);
    }
    ab / (aa * bb).sqrt().max(1e-9)
}
