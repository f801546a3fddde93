//! Where a token travels: cookie, header or envelope.
