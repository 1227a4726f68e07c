//! The objects there are, by handle, and the areas that JavaScript reads and writes between calls.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::fault::Fault;
use crate::object::Object;
use crate::options::Options;

/// Numbers that a constructor is given, or that an object counted.
const NUMBERS: usize = 32;

/// Bytes that a constructor is given: a key, then a session id.
const BYTES: usize = 512;

/// One of the areas of an object.
#[derive(Clone, Copy)]
pub(crate) enum Area {
    /// 32-bit floats: in, of what codes; out, of what decodes.
    Samples,
    /// Bytes: out, of what codes; in, of what decodes.
    Bytes,
    /// 32-bit floats that a resampler gives.
    Output,
    /// Of each packet in the bytes of a processor, where it ends, 32 bits each.
    Ends,
    /// 64-bit floats of the module.
    Numbers,
    /// Text of the last error, UTF-8.
    Text,
}

impl Area {
    pub(crate) const fn of(which: u32) -> Self {
        match which {
            0 => Self::Samples,
            1 => Self::Bytes,
            2 => Self::Output,
            3 => Self::Ends,
            4 => Self::Numbers,
            _ => Self::Text,
        }
    }
}

struct Table {
    last: u32,
    objects: BTreeMap<u32, Object>,
    numbers: Vec<f64>,
    bytes: Vec<u8>,
    text: String,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::new(Table {
        last: 0,
        objects: BTreeMap::new(),
        numbers: vec![0.0; NUMBERS],
        bytes: vec![0; BYTES],
        text: String::new(),
    });
}

impl Table {
    fn answer(&mut self, answer: Result<usize, Fault>) -> i32 {
        match answer {
            Ok(number) => i32::try_from(number).unwrap_or(i32::MAX),
            Err(fault) => {
                self.text = fault.message;
                fault.class
            }
        }
    }
}

/// Where an area begins and how many elements it has. Of an object that is not there, nothing.
pub(crate) fn area(handle: u32, area: Area) -> (usize, usize) {
    fn of<T>(area: &mut [T]) -> (usize, usize) {
        (area.as_mut_ptr().expose_provenance(), area.len())
    }
    TABLE.with_borrow_mut(|table| match (area, table.objects.get_mut(&handle)) {
        (Area::Samples, Some(object)) => of(&mut object.samples),
        (Area::Bytes, Some(object)) => of(&mut object.bytes),
        (Area::Output, Some(object)) => of(&mut object.output),
        (Area::Ends, Some(object)) => of(&mut object.ends),
        (Area::Bytes, None) if handle == 0 => of(&mut table.bytes),
        (Area::Numbers, None) if handle == 0 => of(&mut table.numbers),
        (Area::Text, None) if handle == 0 => (table.text.as_ptr().expose_provenance(), table.text.len()),
        _ => (0, 0),
    })
}

/// A new object of what stands in the module's areas: its handle.
pub(crate) fn create(make: impl FnOnce(&Options<'_>) -> Result<Object, Fault>) -> i32 {
    TABLE.with_borrow_mut(|table| {
        let made = make(&Options::new(&table.numbers, &table.bytes)).map(|object| {
            table.last += 1;
            table.objects.insert(table.last, object);
            table.last as usize
        });
        // Keys are nobody's business afterwards.
        table.bytes.fill(0);
        table.answer(made)
    })
}

/// Does something with an object.
pub(crate) fn call(handle: u32, work: impl FnOnce(&mut Object) -> Result<usize, Fault>) -> i32 {
    TABLE.with_borrow_mut(|table| {
        let answer = table.objects.get_mut(&handle).ok_or_else(Fault::closed).and_then(work);
        table.answer(answer)
    })
}

/// What an object counted, as numbers.
pub(crate) fn stats(handle: u32) -> i32 {
    TABLE.with_borrow_mut(|table| {
        let Table { objects, numbers, .. } = table;
        let counted = objects.get_mut(&handle).ok_or_else(Fault::closed).map(|object| object.stats(numbers));
        table.answer(counted)
    })
}

/// Frees an object: 1 if it was there.
pub(crate) fn close(handle: u32) -> i32 {
    TABLE.with_borrow_mut(|table| table.objects.remove(&handle).is_some().into())
}
