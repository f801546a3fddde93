//! HTTP/1.1 on the wire: heads, framing, chunks, edits, answers.
//!
//! Bodies are counted or scanned, never copied; heads are edited in place.
//!
//! A request passes through the room in this order:
//!
//! ```text
//! leading_empty_lines → plain_request ───────────────┬─▶ RequestHead { framing, host, path, … }
//!                         │ not plain, or not whole   │       └─▶ Edits, noted against the head, then applied in the window
//!                         └─▶ head_end → parse_request ┴─▶ HeadError::status → Answer
//! body: Fixed is counted by the caller, Chunked is scanned by Chunks
//! ```
//!
//! Nothing here guesses. What RFC 9112 lets a recipient repair (bare LF, folded lines, repeated equal lengths) is
//! refused, because the next hop may repair it differently and see another request than we did.

mod answer;
mod chunked;
mod date;
mod edits;
mod framing;
mod head;
mod plain;
mod request;
mod response;
mod wide;

pub use answer::{Answer, Keep, NoRoom, reason};
pub use chunked::{ChunkError, Chunks, Piece, Scan};
pub use date::{DATE_LEN, DateCache, imf_fixdate};
pub use edits::{EditError, Edits};
pub use framing::{RequestFraming, ResponseFraming};
pub use head::{Connection, Field, Fields, HeadError, Version, field, head_end, list, overlong, span_in};
pub use request::{
    Method, RequestHead, cannot_be_request, leading_empty_lines, parse_request, plain_request,
};
pub use response::{ResponseHead, cannot_be_response, parse_response, plain_response};
