//! The table of compatibility in the project's README: every row of the ledger in a line, and the counts of the classes.
//!
//! It is written by `cargo run -p homing-conformance --bin classify` between two markers, and a test holds it to the
//! ledger and to the lists. What Homing does is the row's title; of Envoy's side stands what comes before the first stop.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::ledger::{Entry, entries, wrap};

const BEGIN: &str = "<!-- compatibility: written by `cargo run -p homing-conformance --bin classify` -->\n";
const END: &str = "<!-- compatibility: end -->\n";
/// Where the rows stand, as seen from the README.
const LEDGER: &str = "conformance/DIVERGENCES.md";

/// The README with the table that belongs there. The lists are those of `vectors/`.
///
/// # Errors
/// The markers are not there.
pub fn with_table(readme: &str, same: &str, divergence: &str, absent: &str) -> Result<String, String> {
    let parts = readme.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| {
        format!("README.md lacks the two markers:\n{BEGIN}{END}put them where the table goes")
    })?;
    Ok([before, BEGIN, &table(same, divergence, absent), END, after].concat())
}

fn table(same: &str, divergence: &str, absent: &str) -> String {
    let counts = [same, divergence, absent].map(|list| list.lines().count());
    let [same, differ, lacking] = counts.map(grouped);
    let all = grouped(counts.iter().sum());
    let told = format!(
        "{all} decisions of Envoy 1.40.0 are recorded. {same} come out the same here, {differ} differ as below, and \
         {lacking} need what Homing lacks: {}.",
        features(absent)
    );
    let mut out = String::new();
    wrap(&told, "", &mut out);
    let mut section = "";
    for entry in entries() {
        if entry.section != section {
            section = entry.section;
            let head = format!("\n**{section}**\n\n| | Homing | Envoy |\n|---|---|---|\n");
            out.push_str(&head);
        }
        let (number, anchor) = (entry.number, anchor(&entry));
        let envoy = short(entry.get("Envoy").unwrap_or_default());
        let row = writeln!(out, "| [{number}]({LEDGER}#{anchor}) | {} | {envoy} |", entry.title);
        debug_assert!(row.is_ok(), "writing to a string does not fail");
    }
    out.push('\n');
    out
}

/// The features, those that most vectors need first.
fn features(absent: &str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in absent.lines() {
        *counts.entry(line.split_once('\t').map_or(line, |(_, feature)| feature)).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|&(feature, count)| (std::cmp::Reverse(count), feature));
    counts.iter().map(|(feature, count)| format!("{feature} ({count})")).collect::<Vec<_>>().join(", ")
}

/// What comes before the first stop; a dot inside an address or a number is none, nor is anything between backticks.
fn short(text: &str) -> &str {
    let mut quoted = false;
    let end = text.char_indices().find_map(|(at, char)| {
        quoted ^= char == '`';
        let stops = !quoted && [". ", "; ", ": "].iter().any(|stop| text[at..].starts_with(stop));
        stops.then_some(at)
    });
    text[..end.unwrap_or(text.len())].trim_end_matches('.')
}

/// The anchor that a Markdown reader makes of the row's heading.
fn anchor(entry: &Entry) -> String {
    let heading = format!("{}. {}", entry.number, entry.title).to_lowercase();
    let kept = heading.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
    kept.map(|char| if char == ' ' { '-' } else { char }).collect()
}

/// With a comma between thousands.
fn grouped(number: usize) -> String {
    match number / 1000 {
        0 => number.to_string(),
        thousands => format!("{thousands},{:03}", number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_before_the_first_stop_is_short() {
        assert_eq!(short("answers 503."), "answers 503");
        assert_eq!(short("reads `10.0.0.1:80`; then no more. Never."), "reads `10.0.0.1:80`");
        assert_eq!(
            short("takes `strict: \"yes\"` for true: it is lenient."),
            "takes `strict: \"yes\"` for true"
        );
    }

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = format!("a\n{BEGIN}stale\n{END}z\n");
        let page = with_table(&page, "a-1\n", "b-1\t1\tx\n", "c-1\th\nc-2\tg\nc-3\tg\n").unwrap();
        assert!(page.starts_with("a\n") && page.ends_with("z\n") && !page.contains("stale"), "{page}");
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        let counts = "5 decisions of Envoy 1.40.0 are recorded. 1 come out the same here, 1 differ as below, and 3 need";
        assert!(page.contains(counts) && page.contains("lacks: g (2), h (1)."), "{page}");
        assert!(with_table("no markers", "", "", "").is_err());
    }
}
