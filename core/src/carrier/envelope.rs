//! The upstream's own session header with the address wrapped around its value (conformance §1.6).

use super::LineEdit;
use crate::field::FieldName;
use crate::token::{self, Address, ENVELOPE_VALUE_MAX};

/// A compiled envelope carrier.
#[derive(Clone, Debug)]
pub struct Envelope {
    field: FieldName,
}

impl Envelope {
    /// The carrier around the field `name`.
    pub fn new(name: FieldName) -> Self {
        Self { field: name }
    }

    /// The field to read and to write.
    pub fn field(&self) -> &FieldName {
        &self.field
    }

    /// What the upstream gets of the field's `nth` line when the first is an envelope: the value inside, once.
    /// `out` is cleared and filled for [`LineEdit::Write`].
    pub fn unwrap_line(&self, nth: usize, line: &[u8], out: &mut Vec<u8>) -> LineEdit {
        out.clear();
        match nth {
            0 if token::unwrap_envelope(line, out).is_ok() => LineEdit::Write,
            0 => LineEdit::Keep,
            _ => LineEdit::Drop,
        }
    }

    /// Wraps the upstream's value, to the end of `out`. False: it is longer than [`ENVELOPE_VALUE_MAX`] and goes to the
    /// client as it is; the session has no home then, and its next request is a miss of the kind *malformed*.
    pub fn wrap(&self, address: &Address, upstream_value: &[u8], out: &mut Vec<u8>) -> bool {
        let fits = upstream_value.len() <= ENVELOPE_VALUE_MAX;
        if fits {
            token::encode_envelope(address, upstream_value, out);
        }
        fits
    }

    /// The length of the longest value that [`Envelope::wrap`] writes.
    pub fn value_max(&self) -> usize {
        token::ENVELOPE_MAX
    }
}
