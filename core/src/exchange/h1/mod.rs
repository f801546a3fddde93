//! HTTP/1.1 over the two windows: the request half, the response half, and what they do to each other.

mod answer;
mod edit;
mod events;
mod request;
mod response;
mod sse;
