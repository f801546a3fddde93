//! HTTP/1.1 over the two windows: the request half, the response half, and what they do to each other.

mod answer;
mod edit;
mod events;
mod request;
mod response;

/// Where a head may be.
#[derive(Clone, Copy)]
enum Extent {
    /// It has so many bytes.
    Exactly(usize),
    /// If it is whole and plain, it ends within so many.
    Within(usize),
}
