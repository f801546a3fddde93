//! YAML text as a tree in which every node knows its place.
//!
//! The typed reading happens on this tree instead of in serde's derive: so every mistake of a file is found
//! in one run, each with its line, its column and its field, whether it is one of syntax, of type or of sense.

use core::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MessageFormatter, Spanned, UserMessageFormatter};

use super::error::{At, Problem};

/// One value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it was written.
    pub(super) at: At,
    /// What it is.
    pub(super) kind: Kind,
}

/// What a value is, by the YAML 1.2 core schema.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Whole(i128),
    /// Another number.
    Real(f64),
    /// Everything else that is no collection.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in order, duplicates included. A key that is no text is kept as its description.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Where it was written; its path is the field's.
    pub(super) at: At,
    /// Its text; `None` when it is something else.
    pub(super) text: Option<String>,
}

/// The documents of one file; empty ones are skipped. `file` is its place.
pub(super) fn parse(file: &At, text: &str) -> Result<Vec<Node>, Problem> {
    let options = serde_saphyr::options! {
        // Duplicates are reported by the reader, all of them and with the place of the first.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
        // Lists of 100,000 hosts with their settings fit; a bomb of aliases does not.
        budget: serde_saphyr::budget! { max_nodes: 4_000_000, max_events: 8_000_000 },
    };
    match serde_saphyr::from_multiple_with_options::<Raw>(text, options) {
        Ok(documents) => Ok(documents.into_iter().map(|raw| raw.place(file, "".into())).collect()),
        Err(error) => Err(Problem {
            at: error.location().map_or_else(|| file.clone(), |location| at(file, location, "".into())),
            what: format!("this is not YAML: {}", UserMessageFormatter.format_message(error.without_snippet())),
            remedy: "check the indentation, and put quotes around a value that begins with one of `[ { * & ! % @` \
                     or holds `: ` (write \"*.example.org\" and \"[::1]:80\")"
                .into(),
        }),
    }
}

impl Node {
    /// What was found, for messages.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Null => "nothing".into(),
            Kind::Bool(value) => format!("{value}"),
            Kind::Whole(value) => format!("the number {value}"),
            Kind::Real(value) => format!("the number {value}"),
            Kind::Text(text) => format!("{:?}", shorten(text)),
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
        }
    }

    /// The value of a top-level key, for telling kinds of documents apart.
    pub(super) fn peek(&self, key: &str) -> Option<&Self> {
        let Kind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|(name, _)| name.text.as_deref() == Some(key)).map(|(_, node)| node)
    }
}

/// At most 60 characters of `text`.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}

/// A node as serde delivers it, before it knows its file and path.
struct Raw {
    location: serde_saphyr::Location,
    kind: RawKind,
}

enum RawKind {
    Scalar(Kind),
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
}

impl Raw {
    fn place(self, file: &At, path: Box<str>) -> Node {
        let here = at(file, self.location, path);
        let kind = match self.kind {
            RawKind::Scalar(kind) => kind,
            RawKind::List(items) => {
                let item =
                    |(nth, item): (usize, Self)| item.place(file, format!("{}[{nth}]", here.path).into());
                Kind::List(items.into_iter().enumerate().map(item).collect())
            }
            RawKind::Map(entries) => {
                Kind::Map(entries.into_iter().map(|entry| place_entry(&here, file, entry)).collect())
            }
        };
        Node { at: here, kind }
    }
}

fn place_entry(map: &At, file: &At, (key, value): (Raw, Raw)) -> (Key, Node) {
    let text = match key.kind {
        RawKind::Scalar(Kind::Text(text)) => Some(text),
        _ => None,
    };
    let path = text.as_deref().map_or_else(|| map.path.clone(), |text| map.field(text));
    let key = Key { at: at(file, key.location, path.clone()), text };
    (key, value.place(file, path))
}

fn at(file: &At, location: serde_saphyr::Location, path: Box<str>) -> At {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    At {
        source: file.source.clone(),
        order: file.order,
        line: small(location.line()),
        column: small(location.column()),
        path,
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<RawKind>::deserialize(deserializer)?;
        // An alias is mended where its anchor is.
        Ok(Self { location: spanned.defined, kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for RawKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = RawKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Null))
    }

    fn visit_none<E>(self) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawKind, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Whole(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Whole(value.into())))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Whole(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Real(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawKind, E> {
        Ok(RawKind::Scalar(Kind::Text(value.into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawKind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawKind, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key()? {
            entries.push((key, access.next_value()?));
        }
        Ok(RawKind::Map(entries))
    }
}
