//! Bytes to token and back.

use crate::clock::UnixSecs;
use crate::limits::ADDRESS_MAX;

/// A host address as text, held by value.
#[derive(Clone, Copy)]
pub struct Address {
    len: u8,
    bytes: [u8; ADDRESS_MAX],
}

/// What a usable session field says.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// The host's address text.
    pub address: Address,
    /// When the token stops counting; `None`: never.
    pub expires: Option<UnixSecs>,
}

impl Address {
    /// Copies `text`; `None` when it is empty or longer than [`ADDRESS_MAX`].
    pub fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; ADDRESS_MAX];
        bytes.get_mut(..text.len()).filter(|to| !to.is_empty())?.copy_from_slice(text);
        Some(Self { len: u8::try_from(text.len()).ok()?, bytes })
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl core::fmt::Debug for Address {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.as_bytes().escape_ascii().to_string())
    }
}
