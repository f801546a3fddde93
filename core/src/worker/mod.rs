//! What every shell would otherwise repeat.
