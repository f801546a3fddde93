//! Per-request facts in closed enums, and the counters made of them.
