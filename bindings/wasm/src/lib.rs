//! The voice path for WebAssembly: `index.js` is the other half.
//!
//! No pointer comes in. JavaScript names objects by handles, asks where their areas lie, and reads and writes those between
//! calls; a handle that was closed is an error. So all of it is safe Rust, whatever JavaScript does. Every call returns a
//! number: what is below zero is an error, whose words are in the text area.

mod fault;
mod object;
mod options;
mod table;

use evenkeel_core::units::Time;

use self::fault::Fault;
use self::object::Object;
use self::table::{Area, call, create};

/// Where an area begins. `handle` 0 is the module itself: numbers for constructors, bytes for keys, text of errors.
#[unsafe(no_mangle)]
pub extern "C" fn area(handle: u32, which: u32) -> usize {
    table::area(handle, Area::of(which)).0
}

/// How many elements an area has.
#[unsafe(no_mangle)]
pub extern "C" fn area_len(handle: u32, which: u32) -> usize {
    table::area(handle, Area::of(which)).1
}

/// A new `AudioProcessor` of the numbers and bytes of the module's areas; its handle.
#[unsafe(no_mangle)]
pub extern "C" fn processor() -> i32 {
    create(Object::processor)
}

/// A new `AudioReceiver`.
#[unsafe(no_mangle)]
pub extern "C" fn receiver() -> i32 {
    create(Object::receiver)
}

/// A new `OpusReceiver`.
#[unsafe(no_mangle)]
pub extern "C" fn opus_receiver() -> i32 {
    create(Object::opus_receiver)
}

/// A new `OpusEncoder`.
#[unsafe(no_mangle)]
pub extern "C" fn encoder() -> i32 {
    create(Object::encoder)
}

/// A new `OpusDecoder`.
#[unsafe(no_mangle)]
pub extern "C" fn decoder() -> i32 {
    create(Object::decoder)
}

/// A new `Resampler`.
#[unsafe(no_mangle)]
pub extern "C" fn resampler() -> i32 {
    create(Object::resampler)
}

/// Frees an object: 1 if it was there.
#[unsafe(no_mangle)]
pub extern "C" fn close(handle: u32) -> i32 {
    table::close(handle)
}

/// Sends, codes or resamples that many samples of the samples area. Of a processor, how many packets are complete; of an
/// encoder, the bytes of the packet; of a resampler, the samples of its output area.
#[unsafe(no_mangle)]
pub extern "C" fn push(handle: u32, count: usize, silence_non_finite: u32) -> i32 {
    call(handle, |object| object.push(count, silence_non_finite != 0))
}

/// Ends the stream of a processor or resampler; returns as [`push`].
#[unsafe(no_mangle)]
pub extern "C" fn flush(handle: u32) -> i32 {
    call(handle, Object::flush)
}

/// To the rung of that place, 0 the best; one past the last mutes.
#[unsafe(no_mangle)]
pub extern "C" fn set_position(handle: u32, position: usize) -> i32 {
    call(handle, |object| object.set_position(position))
}

/// Takes the datagram in the first `len` bytes of a receiver's byte area: 1 if it is new and in time.
#[unsafe(no_mangle)]
pub extern "C" fn receive(handle: u32, len: usize, now_ms: f64) -> i32 {
    call(handle, |object| object.receive(len, time(now_ms)?))
}

/// Takes the Opus packet in the first `len` bytes of an Opus receiver's byte area: 1 if it is new and in time.
#[unsafe(no_mangle)]
pub extern "C" fn receive_opus(handle: u32, len: usize, sequence: u32, timestamp: u32, now_ms: f64) -> i32 {
    call(handle, |object| object.receive_opus(len, sequence, timestamp, time(now_ms)?))
}

/// The sender said that it pauses behind what a receiver got so far.
#[unsafe(no_mangle)]
pub extern "C" fn pause(handle: u32) -> i32 {
    call(handle, Object::pause)
}

/// The next stretch of audio into a receiver's samples area: samples per channel.
#[unsafe(no_mangle)]
pub extern "C" fn pull(handle: u32, now_ms: f64) -> i32 {
    call(handle, |object| object.pull(time(now_ms)?))
}

/// Writes what the object counted to the module's numbers: how many numbers.
#[unsafe(no_mangle)]
pub extern "C" fn stats(handle: u32) -> i32 {
    table::stats(handle)
}

/// The packet in the first `len` bytes of a decoder's byte area into its samples area: samples per channel.
#[unsafe(no_mangle)]
pub extern "C" fn decode(handle: u32, len: usize) -> i32 {
    call(handle, |object| object.decode(len))
}

/// The lost packet of `ms` before the one in the byte area, from what that carries of it.
#[unsafe(no_mangle)]
pub extern "C" fn decode_fec(handle: u32, len: usize, ms: f64) -> i32 {
    call(handle, |object| object.decode_fec(len, ms))
}

/// Makes up for a lost packet of `ms`.
#[unsafe(no_mangle)]
pub extern "C" fn conceal(handle: u32, ms: f64) -> i32 {
    call(handle, |object| object.conceal(ms))
}

/// Forgets the signal so far.
#[unsafe(no_mangle)]
pub extern "C" fn reset(handle: u32) -> i32 {
    call(handle, Object::reset)
}

fn time(ms: f64) -> Result<Time, Fault> {
    if ms.is_finite() && (0.0..1e12).contains(&ms) {
        return Ok(Time::from_nanos((ms * 1e6) as u64));
    }
    Err(Fault::range("a time must be in milliseconds, 0 or more"))
}
