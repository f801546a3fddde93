//! A header of our own: the address in base64 (conformance §1.5).

use crate::field::FieldName;
use crate::token::{self, Address};

/// A compiled header carrier. The request's header goes upstream as it is.
#[derive(Clone, Debug)]
pub struct Header {
    field: FieldName,
}

impl Header {
    /// The carrier in the field `name`.
    pub fn new(name: FieldName) -> Self {
        Self { field: name }
    }

    /// The field to read and to write.
    pub fn field(&self) -> &FieldName {
        &self.field
    }

    /// Writes the value that names `address` to the end of `out`.
    pub fn mint(&self, address: &Address, out: &mut Vec<u8>) {
        token::encode_header(address, out);
    }

    /// The length of the longest value that [`Header::mint`] writes.
    pub fn value_max(&self) -> usize {
        token::HEADER_VALUE_MAX
    }
}
