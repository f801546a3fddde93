//! Typed reading of the tree: each reader takes a node, and gives a value or notes what is wrong with it.

use core::ops::RangeInclusive;
use core::time::Duration;

use homing_core::field::{FieldName, FieldValue, Status};

use super::duration::{self, UnitError};
use super::error::{Placed, Problems};
use super::tree::{Key, Kind, Node};

/// A mapping whose keys are taken one by one; what was not taken is unknown.
pub(super) struct Fields<'n> {
    node: &'n Node,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// Begins to read a mapping. `what` says what it describes, such as "a listener".
    pub(super) fn open(node: &'n Node, what: &str, problems: &mut Problems) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            problems.add(
                &node.at,
                format!("{what} is a mapping, but {} is written here", node.describe()),
                "write `key: value` lines",
            );
            return None;
        };
        for (nth, (key, _)) in entries.iter().enumerate() {
            let Some(text) = &key.text else {
                problems.add(&key.at, "a key must be text", "put the key in quotes");
                continue;
            };
            let earlier = entries.iter().take(nth).find(|(other, _)| other.text.as_ref() == Some(text));
            if let Some((first, _)) = earlier {
                problems.add(
                    &key.at,
                    format!("this key was already given on line {}", first.at.line),
                    "keep one of the two",
                );
            }
        }
        Some(Self { node, entries, known: Vec::new() })
    }

    /// The node of `key`, if it was written.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.entries.iter().find(|(name, _)| name.text.as_deref() == Some(key)).map(|(_, node)| node)
    }

    /// Reads `key`, if it was written.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
        read: impl FnOnce(&Node, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        if matches!(node.kind, Kind::Null) {
            problems.add(&node.at, "this key has no value", "give it one or remove the key");
            return None;
        }
        read(node, problems)
    }

    /// Reads `key`; notes its absence and shows `example`.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        problems: &mut Problems,
        read: impl FnOnce(&Node, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        let written = self.entries.iter().any(|(name, _)| name.text.as_deref() == Some(key));
        if !written {
            self.known.push(key);
            problems.add(
                &self.node.at,
                format!("`{key}` is missing"),
                format!("add it, for example `{example}`"),
            );
            return None;
        }
        self.optional(key, problems, read)
    }

    /// Whether `key` was written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(name, _)| name.text.as_deref() == Some(key))
    }

    /// Notes every key that nobody asked for.
    pub(super) fn finish(self, problems: &mut Problems) {
        let known = self.known.clone();
        self.finish_with(problems, |key| ("there is no such key here".into(), suggest(key, &known)));
    }

    /// Notes every key that nobody asked for, in the words of `explain`: what, and the remedy.
    pub(super) fn finish_with(self, problems: &mut Problems, explain: impl Fn(&str) -> (String, String)) {
        for (key, _) in self.entries {
            let Some(text) = key.text.as_deref().filter(|text| !self.known.contains(text)) else { continue };
            let (what, remedy) = explain(text);
            problems.add(&key.at, what, remedy);
        }
    }
}

/// What to write instead of `given`.
pub(super) fn suggest(given: &str, known: &[&str]) -> String {
    let fold = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    let close = known
        .iter()
        .map(|name| (distance(&fold(given), &fold(name)), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .min();
    match close {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "remove it".into(),
        None => format!("use one of: {}", known.join(", ")),
    }
}

/// The number of letters to insert, drop or change to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = core::mem::replace(row.first_mut().unwrap_or(&mut 0), i + 1);
        let mut before = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(&b) {
            let cost = (diagonal + usize::from(left != *right)).min(before + 1).min(*cell + 1);
            diagonal = core::mem::replace(cell, cost);
            before = cost;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Adds the place to what `read` gives.
pub(super) fn placed<T>(
    read: impl FnOnce(&Node, &mut Problems) -> Option<T>,
) -> impl FnOnce(&Node, &mut Problems) -> Option<Placed<T>> {
    |node, problems| Some(Placed { value: read(node, problems)?, at: node.at.clone() })
}

/// Text that is not empty.
pub(super) fn text(node: &Node, problems: &mut Problems) -> Option<String> {
    match &node.kind {
        Kind::Text(text) if !text.is_empty() => Some(text.clone()),
        Kind::Text(_) => {
            problems.add(&node.at, "this text is empty", "write something, or remove the key");
            None
        }
        _ => any_text(node, problems),
    }
}

/// Text that may be empty.
pub(super) fn any_text(node: &Node, problems: &mut Problems) -> Option<String> {
    match &node.kind {
        Kind::Text(text) => Some(text.clone()),
        Kind::Bool(_) | Kind::Whole(_) | Kind::Real(_) => {
            wrong(node, problems, "text", "put the value in quotes");
            None
        }
        _ => {
            wrong(node, problems, "text", "write a single value");
            None
        }
    }
}

/// `true` or `false`.
pub(super) fn boolean(node: &Node, problems: &mut Problems) -> Option<bool> {
    if let Kind::Bool(value) = node.kind {
        return Some(value);
    }
    wrong(node, problems, "true or false", "write `true` or `false`, without quotes");
    None
}

/// A whole number within `range`.
pub(super) fn whole(range: RangeInclusive<u64>) -> impl FnOnce(&Node, &mut Problems) -> Option<u64> {
    move |node, problems| {
        let value = match node.kind {
            Kind::Whole(value) => u64::try_from(value).ok(),
            _ => None,
        };
        within(value, &range, node, problems)
    }
}

/// The value that was found at `node`, if there is one and `range` has it.
pub(super) fn within(
    value: Option<u64>,
    range: &RangeInclusive<u64>,
    node: &Node,
    problems: &mut Problems,
) -> Option<u64> {
    let value = value.filter(|value| range.contains(value));
    if value.is_none() {
        let (from, to) = (range.start(), range.end());
        wrong(node, problems, &format!("a whole number from {from} to {to}"), "choose one of these");
    }
    value
}

/// A duration with its units.
pub(super) fn time(node: &Node, problems: &mut Problems) -> Option<Duration> {
    let remedy = "write a number with a unit, such as 500ms, 60s, 1m30s or 2h";
    match &node.kind {
        Kind::Text(text) => match duration::duration(text) {
            Ok(value) => Some(value),
            Err(error) => {
                let longest = format!("write at most {}s", duration::LONGEST_SECS);
                let remedy = if error == UnitError::TooLarge { &longest } else { remedy };
                problems.add(&node.at, format!("{} is no duration: {error}", node.describe()), remedy);
                None
            }
        },
        _ => {
            wrong(node, problems, "a duration", remedy);
            None
        }
    }
}

/// A size in bytes within `range`.
pub(super) fn size(range: RangeInclusive<u64>) -> impl FnOnce(&Node, &mut Problems) -> Option<u64> {
    move |node, problems| {
        let remedy = "write a whole number with a unit, such as 512B, 64KiB or 10MiB";
        let Kind::Text(text) = &node.kind else {
            wrong(node, problems, "a size", remedy);
            return None;
        };
        match duration::size(text) {
            Ok(value) if range.contains(&value) => Some(value),
            Ok(_) => {
                let remedy = format!("write a size from {} to {} bytes", range.start(), range.end());
                problems.add(&node.at, format!("{} is out of range", node.describe()), remedy);
                None
            }
            Err(error) => {
                problems.add(&node.at, format!("{} is no size: {error}", node.describe()), remedy);
                None
            }
        }
    }
}

/// One of the words of `choices`.
pub(super) fn choice<T: Copy>(choices: &[(&'static str, T)]) -> impl Fn(&Node, &mut Problems) -> Option<T> {
    move |node, problems| {
        let known: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let Kind::Text(text) = &node.kind else {
            wrong(node, problems, "a word", &format!("use one of: {}", known.join(", ")));
            return None;
        };
        let found = choices.iter().find(|(name, _)| name == text).map(|(_, value)| *value);
        if found.is_none() {
            problems.add(
                &node.at,
                format!("{} is none of the known words", node.describe()),
                suggest(text, &known),
            );
        }
        found
    }
}

/// A list, each item read by `read`; the second part says whether every item could be read.
pub(super) fn list<T>(
    read: impl Fn(&Node, &mut Problems) -> Option<T>,
) -> impl FnOnce(&Node, &mut Problems) -> Option<(Vec<T>, bool)> {
    move |node, problems| each(node, problems, &read)
}

/// The same for a reader that remembers, or that keeps what it read from.
pub(super) fn each<'n, T>(
    node: &'n Node,
    problems: &mut Problems,
    mut read: impl FnMut(&'n Node, &mut Problems) -> Option<T>,
) -> Option<(Vec<T>, bool)> {
    let Kind::List(items) = &node.kind else {
        wrong(node, problems, "a list", "write `- …` lines, or [a, b]");
        return None;
    };
    let values: Vec<T> = items.iter().filter_map(|item| read(item, problems)).collect();
    let complete = values.len() == items.len();
    Some((values, complete))
}

/// A list that is not empty.
pub(super) fn some<T>(
    read: impl Fn(&Node, &mut Problems) -> Option<T>,
) -> impl FnOnce(&Node, &mut Problems) -> Option<(Vec<T>, bool)> {
    move |node, problems| {
        if matches!(&node.kind, Kind::List(items) if items.is_empty()) {
            problems.add(&node.at, "this list is empty", "add at least one item");
            return None;
        }
        list(read)(node, problems)
    }
}

/// A field name that may be written to the wire.
pub(super) fn field_name(node: &Node, problems: &mut Problems) -> Option<FieldName> {
    let text = text(node, problems)?;
    FieldName::new(&text)
        .inspect_err(|error| problems.add(&node.at, format!("{error}"), "use letters, digits and `-`"))
        .ok()
}

/// A field value that may be written to the wire.
pub(super) fn field_value(node: &Node, problems: &mut Problems) -> Option<FieldValue> {
    let text = any_text(node, problems)?;
    FieldValue::new(&text)
        .inspect_err(|error| {
            problems.add(&node.at, format!("{error}"), "write it on one line, without control characters");
        })
        .ok()
}

/// A final status.
pub(super) fn status(node: &Node, problems: &mut Problems) -> Option<Status> {
    let number = match node.kind {
        Kind::Whole(number) => u16::try_from(number).ok(),
        _ => None,
    };
    let status = number.and_then(|number| Status::new(number).ok());
    if status.is_none() {
        wrong(node, problems, "a final HTTP status", "write a number from 200 to 599");
    }
    status
}

/// Notes that something else than `expected` is written here.
pub(super) fn wrong(node: &Node, problems: &mut Problems, expected: &str, remedy: &str) {
    problems.add(&node.at, format!("expected {expected}, found {}", node.describe()), remedy);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_suggested_and_a_far_one_lists_the_keys() {
        let known = ["address", "name", "statefulSession"];
        assert_eq!(suggest("adress", &known), "did you mean `address`?");
        assert_eq!(suggest("stateful_session", &known), "did you mean `statefulSession`?");
        assert_eq!(suggest("zzz", &known), "use one of: address, name, statefulSession");
    }

    #[test]
    fn the_distance_counts_single_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
