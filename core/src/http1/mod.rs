//! HTTP/1.1 on the wire: heads, framing, chunks, edits, answers.
//!
//! Bodies are counted or scanned, never copied; heads are edited in place.
