//! A message of protobuf's JSON form on the tree: either spelling of a field's name, `null` for "not set", numbers that
//! may be text, and a type's name in `@type`.
//!
//! Every field that nobody takes is an error, in the words of [`super::absent`].

use core::ops::RangeInclusive;
use core::time::Duration;

use super::super::duration::LONGEST_SECS;
use super::super::error::Problems;
use super::super::reader::{boolean, each, within, wrong};
use super::super::tree::{Key, Kind, Node};
use super::absent;

/// A message whose fields are taken one by one.
pub(super) struct Message<'n> {
    /// Where it was written.
    pub(super) node: &'n Node,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'n> Message<'n> {
    /// Begins to read a message. `what` says what it describes, such as "a cluster".
    pub(super) fn open(node: &'n Node, what: &str, problems: &mut Problems) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            wrong(node, problems, &format!("{what} as a mapping"), "write `field: value` lines");
            return None;
        };
        for (nth, (key, _)) in entries.iter().enumerate() {
            let Some(text) = &key.text else {
                problems.add(&key.at, "a field's name must be text", "put it in quotes");
                continue;
            };
            // Both spellings name one field.
            let same = |(other, _): &&(Key, Node)| other.text.as_deref().map(camel) == Some(camel(text));
            if let Some((first, _)) = entries.iter().take(nth).find(same) {
                let what = format!("this field was already given on line {}", first.at.line);
                problems.add(&key.at, what, "keep one of the two");
            }
        }
        Some(Self { node, entries, known: Vec::new() })
    }

    /// Begins to read an `Any`: the message, and the name of its type.
    pub(super) fn any(node: &'n Node, what: &str, problems: &mut Problems) -> Option<(Self, &'n str)> {
        let mut message = Self::open(node, what, problems)?;
        let Some(kind) = message.take("@type") else {
            let remedy = "write the message's type, such as type.googleapis.com/envoy.…";
            problems.add(&node.at, "`@type` is missing", remedy);
            return None;
        };
        match &kind.kind {
            // What stands in front of the last slash is a server's name, and not asked.
            Kind::Text(text) => Some((message, text.rsplit('/').next().unwrap_or(text))),
            _ => {
                wrong(kind, problems, "the name of a type", "write type.googleapis.com/envoy.…");
                None
            }
        }
    }

    /// An `Any` that must be of the type `expected`.
    pub(super) fn of_type(
        node: &'n Node,
        what: &str,
        expected: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        let (message, kind) = Self::any(node, what, problems)?;
        if kind == expected {
            return Some(message);
        }
        let place = message.find("@type").unwrap_or(node);
        problems.add(&place.at, format!("{what} cannot be of the type {kind:?}"), format!("use {expected}"));
        None
    }

    fn find(&self, field: &str) -> Option<&'n Node> {
        let named = |key: &Key| key.text.as_deref().is_some_and(|text| text == field || text == camel(field));
        self.entries.iter().find(|(key, _)| named(key)).map(|(_, node)| node)
    }

    /// Whether the field is set.
    pub(super) fn has(&self, field: &str) -> bool {
        self.find(field).is_some_and(|node| !matches!(node.kind, Kind::Null))
    }

    /// The field's node, if it is set.
    pub(super) fn take(&mut self, field: &'static str) -> Option<&'n Node> {
        self.known.push(field);
        self.find(field).filter(|node| !matches!(node.kind, Kind::Null))
    }

    /// Reads the field, if it is set.
    pub(super) fn optional<T>(
        &mut self,
        field: &'static str,
        problems: &mut Problems,
        read: impl FnOnce(&'n Node, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        read(self.take(field)?, problems)
    }

    /// Reads the field; notes its absence and shows `example`.
    pub(super) fn required<T>(
        &mut self,
        field: &'static str,
        example: &str,
        problems: &mut Problems,
        read: impl FnOnce(&'n Node, &mut Problems) -> Option<T>,
    ) -> Option<T> {
        if !self.has(field) {
            self.known.push(field);
            let remedy = format!("add it, for example `{example}`");
            problems.add(&self.node.at, format!("`{field}` is missing"), remedy);
            return None;
        }
        self.optional(field, problems, read)
    }

    /// Takes fields that name things or count them, and steer no request.
    pub(super) fn set_aside(&mut self, fields: &[&'static str]) {
        self.known.extend_from_slice(fields);
    }

    /// Takes a switch that can only have the value which says what Homing does.
    pub(super) fn fixed(&mut self, field: &'static str, only: bool, problems: &mut Problems) {
        self.optional(field, problems, |node, problems| {
            if boolean(node, problems)? != only {
                let what = match absent::feature(field) {
                    Some(feature) => format!("Homing has no {feature}"),
                    None => format!("Homing honours `{only}` alone here"),
                };
                problems.add(&node.at, what, "remove this field, or leave its job to Envoy");
            }
            Some(())
        });
    }

    /// Notes every field that nobody took, unless it is one of Envoy's that is not set.
    pub(super) fn finish(self, problems: &mut Problems) {
        for (key, value) in self.entries {
            let Some(text) = key.text.as_deref() else { continue };
            if matches!(value.kind, Kind::Null) && absent::feature(text).is_some() {
                continue;
            }
            if self.known.iter().any(|known| *known == text || camel(known) == text) {
                continue;
            }
            let (what, remedy) = absent::explain(text, &self.known);
            problems.add(&key.at, what, remedy);
        }
    }
}

/// The other spelling of a field's name: without underscores, each followed by a capital letter.
pub(super) fn camel(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut raise = false;
    for c in field.chars() {
        if c == '_' {
            raise = true;
        } else {
            out.push(if raise { c.to_ascii_uppercase() } else { c });
            raise = false;
        }
    }
    out
}

/// The items of a list, each read by `read`; the second part says whether every item could be read.
pub(super) fn items<'n, T>(
    read: impl FnMut(&'n Node, &mut Problems) -> Option<T>,
) -> impl FnOnce(&'n Node, &mut Problems) -> Option<(Vec<T>, bool)> {
    move |node, problems| each(node, problems, read)
}

/// A whole number within `range`; protobuf's JSON form has it as text too.
pub(super) fn number(range: RangeInclusive<u64>) -> impl FnOnce(&Node, &mut Problems) -> Option<u64> {
    move |node, problems| {
        let value = match &node.kind {
            Kind::Whole(value) => u64::try_from(*value).ok(),
            Kind::Text(text) => text.parse().ok(),
            _ => None,
        };
        within(value, &range, node, problems)
    }
}

/// A value of an enum, by its name or its number.
pub(super) fn choice<T: Copy>(
    choices: &[(&'static str, u8, T)],
) -> impl FnOnce(&Node, &mut Problems) -> Option<T> {
    move |node, problems| {
        let found = choices.iter().find(|(name, value, _)| match &node.kind {
            Kind::Text(text) => text == name,
            Kind::Whole(number) => *number == i128::from(*value),
            _ => false,
        });
        if found.is_none() {
            let known: Vec<_> = choices.iter().map(|(name, ..)| *name).collect();
            let what = match &node.kind {
                Kind::Text(text) if absent::feature(text).is_some() => {
                    format!("Homing has no {}", absent::feature(text).unwrap_or_default())
                }
                _ => format!("{} is not honoured here", node.describe()),
            };
            problems.add(&node.at, what, format!("use one of: {}", known.join(", ")));
        }
        found.map(|(.., value)| *value)
    }
}

/// A duration as protobuf's JSON form has it: seconds with at most nine decimals and an `s`.
pub(super) fn time(node: &Node, problems: &mut Problems) -> Option<Duration> {
    let text = match &node.kind {
        Kind::Text(text) => Some(text.as_str()),
        _ => None,
    };
    let found = text.and_then(|text| text.strip_suffix('s')).and_then(seconds);
    match found {
        Some(found) if found.as_secs() <= LONGEST_SECS => Some(found),
        Some(_) => {
            let remedy = format!("write at most {LONGEST_SECS}s");
            problems.add(&node.at, format!("{} is too long", node.describe()), remedy);
            None
        }
        None => {
            wrong(node, problems, "a duration", "write seconds with an `s`, such as 60s or 0.25s");
            None
        }
    }
}

fn seconds(text: &str) -> Option<Duration> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 9 {
        return None;
    }
    Some(Duration::new(whole.parse().ok()?, format!("{decimals:0<9}").parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_spelling_is_protobufs() {
        assert_eq!(camel("accept_http_10"), "acceptHttp10");
        assert_eq!(camel("status_on_strict_destination_not_found"), "statusOnStrictDestinationNotFound");
        assert_eq!(camel("@type"), "@type");
    }

    #[test]
    fn durations_are_seconds_to_the_nanosecond() {
        assert_eq!(seconds("60"), Some(Duration::from_secs(60)));
        assert_eq!(seconds("0.000000001"), Some(Duration::from_nanos(1)));
        assert_eq!(seconds("1.9"), Some(Duration::from_millis(1900)));
        for text in ["", "-1", "-0.000000001", "abc", "1m", "0.0000000001", ".5", "1.", "+1"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
