//! Memory of JavaScript's, borrowed for the length of a call.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ptr;

use evenkeel_core::pcm::Samples;
use napi::bindgen_prelude::{Env, JsValue, Unknown};
use napi::sys;

use crate::fault::{Fault, Outcome};

/// Samples that JavaScript handed over, interleaved.
pub(crate) enum Pcm<'a> {
    F32(Cow<'a, [f32]>),
    I16(Cow<'a, [i16]>),
}

impl Pcm<'_> {
    pub(crate) fn samples(&self) -> Samples<'_> {
        match self {
            Self::F32(samples) => Samples::F32(samples),
            Self::I16(samples) => Samples::I16(samples),
        }
    }

    /// Fails at the first sample that is NaN or infinite.
    pub(crate) fn check_finite(&self) -> Outcome<()> {
        let Self::F32(samples) = self else { return Ok(()) };
        // Without a branch a sample, so that it takes a tenth of the time; which one it was is asked only if one was.
        let exponents = samples.iter().fold(0, |most: u32, x| most.max(x.to_bits() & 0x7f80_0000));
        if exponents != 0x7f80_0000 {
            return Ok(());
        }
        Err(Fault::not_finite(samples.iter().position(|x| !x.is_finite()).unwrap_or(0)))
    }
}

/// A Float32Array or Int16Array.
pub(crate) fn pcm<'a>(env: &Env, value: &'a Unknown<'_>, what: &str) -> Outcome<Pcm<'a>> {
    match View::of(env, value) {
        Some(view) if view.kind == f32::KIND => Ok(Pcm::F32(view.read(env, what)?)),
        Some(view) if view.kind == i16::KIND => Ok(Pcm::I16(view.read(env, what)?)),
        _ => Err(Fault::wrong_type(format!("{what} must be a Float32Array or an Int16Array"))),
    }
}

/// As [`pcm`]; a Buffer is taken too, for 16-bit samples in the order of this machine.
pub(crate) fn pcm_or_buffer<'a>(env: &Env, value: &'a Unknown<'_>, what: &str) -> Outcome<Pcm<'a>> {
    let Some(view) = View::of(env, value) else {
        return Err(Fault::wrong_type(format!("{what} must be a Buffer, an Int16Array or a Float32Array")));
    };
    if view.kind != u8::KIND {
        return pcm(env, value, what);
    }
    let bytes: Cow<'_, [u8]> = view.read(env, what)?;
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Fault::length(format!("{what}: {} bytes are not whole 16-bit samples", bytes.len())));
    }
    Ok(Pcm::I16(pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect()))
}

/// A Buffer or Uint8Array.
pub(crate) fn bytes<'a>(env: &Env, value: &'a Unknown<'_>, what: &str) -> Outcome<Cow<'a, [u8]>> {
    match View::of(env, value) {
        Some(view) if view.kind == u8::KIND => view.read(env, what),
        _ => Err(Fault::wrong_type(format!("{what} must be a Buffer or a Uint8Array"))),
    }
}

/// The bytes of a Buffer or Uint8Array, to be changed in place by `change`, which must run no JavaScript.
pub(crate) fn change_bytes(
    env: &Env,
    value: &Unknown<'_>,
    what: &str,
    change: impl FnOnce(&mut [u8]),
) -> Outcome<()> {
    let view = View::of(env, value).filter(|view| view.kind == u8::KIND);
    let view = view.ok_or_else(|| Fault::wrong_type(format!("{what} must be a Buffer or a Uint8Array")))?;
    if view.is_shared(env) {
        return Err(Fault::wrong_type(format!(
            "{what} lies in a SharedArrayBuffer, which cannot be changed in place: another thread may read it"
        )));
    }
    if view.len == 0 && view.is_detached(env) {
        return Err(Fault::detached(what));
    }
    if view.len > 0 {
        // SAFETY: the view has `len` bytes at `data`, which stay where they are until JavaScript runs again; nobody else
        // has them borrowed, as a call borrows for its own length, and the threads of JavaScript share only what
        // `is_shared` tells.
        change(unsafe { std::slice::from_raw_parts_mut(view.data.cast(), view.len) });
    }
    Ok(())
}

/// An ArrayBuffer's part that a typed array shows.
struct View {
    kind: sys::napi_typedarray_type,
    /// Elements.
    len: usize,
    data: *mut std::ffi::c_void,
    buffer: sys::napi_value,
}

impl View {
    /// `None` for what is no typed array.
    fn of(env: &Env, value: &Unknown<'_>) -> Option<Self> {
        let mut view = Self { kind: 0, len: 0, data: ptr::null_mut(), buffer: ptr::null_mut() };
        let mut offset = 0;
        // SAFETY: the value is of this call; the places written to outlive it.
        let status = unsafe {
            sys::napi_get_typedarray_info(
                env.raw(),
                value.raw(),
                &raw mut view.kind,
                &raw mut view.len,
                &raw mut view.data,
                &raw mut view.buffer,
                &raw mut offset,
            )
        };
        (status == sys::Status::napi_ok).then_some(view)
    }

    /// Borrows the elements, or copies those that another thread may change meanwhile. `T` is the kind's element.
    fn read<'a, T: Element>(self, env: &Env, what: &str) -> Outcome<Cow<'a, [T]>> {
        debug_assert_eq!(self.kind, T::KIND);
        if self.len == 0 || self.data.is_null() {
            return if self.is_detached(env) { Err(Fault::detached(what)) } else { Ok(Cow::default()) };
        }
        let data: *const T = self.data.cast();
        if self.is_shared(env) {
            let mut copy = vec![T::default(); self.len];
            // SAFETY: `data` has `len` elements, which stay allocated as long as the value lives. Others may write to
            // them at this moment: then a sample may be torn, which is theirs to answer for; no reference is made to it.
            unsafe { ptr::copy_nonoverlapping(data, copy.as_mut_ptr(), self.len) };
            return Ok(Cow::Owned(copy));
        }
        // SAFETY: the view has `len` elements of `T` at `data`, aligned for them as JavaScript aligns its typed arrays.
        // They stay where they are until JavaScript runs again, which is after the call that they are borrowed for.
        Ok(Cow::Borrowed(unsafe { std::slice::from_raw_parts(data, self.len) }))
    }

    fn is_shared(&self, env: &Env) -> bool {
        let mut is_own = true;
        // SAFETY: the value is of this call; the place written to outlives it.
        let status = unsafe { sys::napi_is_arraybuffer(env.raw(), self.buffer, &raw mut is_own) };
        status != sys::Status::napi_ok || !is_own
    }

    fn is_detached(&self, env: &Env) -> bool {
        let mut is_detached = false;
        // SAFETY: the value is of this call; the place written to outlives it.
        let status =
            unsafe { sys::napi_is_detached_arraybuffer(env.raw(), self.buffer, &raw mut is_detached) };
        status == sys::Status::napi_ok && is_detached
    }
}

/// What a typed array is made of.
trait Element: Copy + Default {
    const KIND: sys::napi_typedarray_type;
}

impl Element for u8 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::uint8_array;
}

impl Element for i16 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::int16_array;
}

impl Element for f32 {
    const KIND: sys::napi_typedarray_type = sys::TypedarrayType::float32_array;
}
