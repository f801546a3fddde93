//! Envoy's counters as the README defines them: from the name of an outcome and from `strict`. The live differential reads
//! that table; the test below holds it to what the core counts.

/// The table's lines: reason, the counter of a soft and of a strict session; `None`: none.
pub type Line<'t> = (&'t str, [Option<&'t str>; 2]);

/// Reads the table in the README beside this crate.
///
/// # Errors
/// The table is not there, or one of its lines has another form.
pub fn table(readme: &str) -> Result<Vec<Line<'_>>, String> {
    let (_, rest) = readme.split_once("<!-- counters -->").ok_or("README.md has no table of counters")?;
    let (table, _) =
        rest.split_once("<!-- /counters -->").ok_or("README.md's table of counters has no end")?;
    let lines = table.lines().filter(|line| line.starts_with("| `"));
    lines.map(|text| line(text).ok_or_else(|| format!("README.md: not a line of counters: {text}"))).collect()
}

fn line(text: &str) -> Option<Line<'_>> {
    let mut cells = text.split('|').map(str::trim).skip(1);
    let (reason, soft, strict) = (cells.next()?, cells.next()?, cells.next()?);
    Some((quoted(reason)?, [counter(soft)?, counter(strict)?]))
}

fn counter(cell: &str) -> Option<Option<&str>> {
    if cell == "none" { Some(None) } else { quoted(cell).map(Some) }
}

fn quoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use homing_core::affinity::{Miss, RefusalReason};
    use homing_core::hosts::{ClusterId, HostId, HostRef};
    use homing_core::stats::{EnvoyCounter, Fate, Move, Outcome, REASONS, Scope};

    use super::*;

    /// One outcome for every dotted name.
    fn outcomes() -> impl Iterator<Item = Outcome> {
        let miss = |miss| (Fate::Placed, Some(miss));
        let misses = [Miss::Absent, Miss::Malformed, Miss::Expired, Miss::Gone, Miss::Barred].map(miss);
        let moves = [Move::ConnectFailed, Move::Reset, Move::Retried].map(|why| (Fate::Moved(why), None));
        let refusals = [RefusalReason::Gone, RefusalReason::Barred, RefusalReason::ConnectFailed];
        let refusals = refusals.map(|why| (Fate::Refused(why), None));
        let others = [Fate::Undecided, Fate::Pinned, Fate::Unplaced].map(|fate| (fate, None));
        let fates = misses.into_iter().chain(moves).chain(refusals).chain(others);
        let active =
            fates.map(|(fate, miss)| Outcome { scope: Scope::Active, fate, miss, ..Outcome::default() });
        let scopes = [Scope::Unmanaged, Scope::Disabled, Scope::OutOfScope];
        let host = Some(HostRef { cluster: ClusterId(0), host: HostId(0) });
        active.chain(scopes.map(|scope| Outcome { scope, host, ..Outcome::default() }))
    }

    #[test]
    fn the_page_says_what_the_core_counts() {
        let page = include_str!("../../README.md");
        let lines: BTreeMap<&str, [Option<&str>; 2]> = table(page).unwrap().into_iter().collect();
        assert_eq!(lines.len(), REASONS.len(), "{:?}", lines.keys());
        let mut seen = 0;
        for outcome in outcomes() {
            let counted = [false, true].map(|strict| Outcome { strict, ..outcome }.envoy_counter());
            let counted = counted.map(|counter| counter.map(EnvoyCounter::as_str));
            assert_eq!(lines.get(outcome.reason()), Some(&counted), "{}", outcome.reason());
            seen += 1;
        }
        assert_eq!(seen, REASONS.len());
    }
}
