//! Where a configuration is wrong, what was expected there, and what to do.
//!
//! Reading goes on after a mistake, so that one run names all that are independent of each other.

use core::fmt;
use std::sync::Arc;

/// A place in the configuration: file, line and column, and the path of the field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct At {
    /// The file as it was named, or the option on the command line.
    pub source: Arc<str>,
    /// The position of the source among the files, so that problems can be put in the order of reading.
    pub order: u32,
    /// Counts from 1; 0 when the place has no line (a whole file, an option).
    pub line: u32,
    /// In characters, counts from 1; 0 when the place has no line.
    pub column: u32,
    /// The field, such as `listeners[0].address`; empty for a whole document.
    pub path: Box<str>,
}

/// A value with the place it was written at.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub at: At,
}

/// One mistake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Where.
    pub at: At,
    /// What is wrong: what was found and what was expected.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Why a configuration cannot be used. Never empty; displayed with one line for each problem.
#[derive(Clone, Debug)]
pub struct ConfigError(Vec<Problem>);

/// Something that was taken and has less effect than its author may think.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// Where.
    pub at: At,
    /// What does not happen, and why.
    pub what: String,
}

/// Collects problems, and notes, while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    notes: Vec<Note>,
}

impl At {
    /// A whole file, the `order`th.
    pub fn file(source: &str, order: u32) -> Self {
        Self { source: source.into(), order, line: 0, column: 0, path: "".into() }
    }

    /// An option on the command line.
    pub fn option(name: &str) -> Self {
        Self::file(name, 0)
    }

    /// The same position, for the field `key` of the mapping here.
    pub(super) fn field(&self, key: &str) -> Box<str> {
        if self.path.is_empty() { key.into() } else { format!("{}.{key}", self.path).into() }
    }

    /// The line for a cross-reference: `file:line`, or the bare source.
    pub(super) fn line_text(&self) -> String {
        if self.line == 0 { self.source.to_string() } else { format!("{}:{}", self.source, self.line) }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if self.path.is_empty() { Ok(()) } else { write!(f, ": {}", self.path) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.at, self.what, self.remedy)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

impl ConfigError {
    /// The mistakes, in the order of the files.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl core::error::Error for ConfigError {}

impl Problems {
    /// Notes a mistake.
    pub(super) fn add(&mut self, at: &At, what: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(Problem { at: at.clone(), what: what.into(), remedy: remedy.into() });
    }

    /// Notes what is no mistake, but ought to be known.
    pub(super) fn note(&mut self, at: &At, what: impl Into<String>) {
        let note = Note { at: at.clone(), what: what.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The notes so far.
    pub(super) fn take_notes(&mut self) -> Vec<Note> {
        core::mem::take(&mut self.notes)
    }

    /// How many mistakes were noted so far.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// `value`, if no mistake was noted.
    pub(super) fn check<T>(mut self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => {
                let place = |p: &Problem| (p.at.order, p.at.line, p.at.column);
                self.found.sort_by_key(place);
                // A fragment that an alias repeats is wrong once.
                self.found.dedup_by(|a, b| place(a) == place(b) && a.what == b.what);
                Err(ConfigError(self.found))
            }
        }
    }
}
