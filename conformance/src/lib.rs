//! Homing's conformance.
