//! Vectors with other addresses. The recorded hosts had fixed ports; a test with sockets has those that the kernel gives.
//!
//! Every place where a recorded address stands is rewritten alike, in what is sent, in what hosts answer and in what is
//! expected: as text, and inside every word that is well-formed base64. Addresses keep their length, so that lengths
//! inside messages, heads and bodies stay true. Damaged base64 and altered addresses stay as they are: they named no host
//! before, and name none now.

use serde_json::Value;

use super::compare::{base64, unbase64};
use super::{Vector, WrittenText, latin1};

/// Recorded addresses, and those that take their place.
#[derive(Clone, Debug, Default)]
pub struct Moves(Vec<(Vec<u8>, Vec<u8>)>);

impl Moves {
    /// Lets `to` take the place of `from`.
    ///
    /// # Errors
    /// They differ in length.
    pub fn add(&mut self, from: &str, to: &str) -> Result<(), String> {
        if from.len() != to.len() {
            return Err(format!("{to} is not as long as {from}, and lengths inside tokens would change"));
        }
        self.0.push((from.into(), to.into()));
        Ok(())
    }

    /// The vector of one line of [`super::TEXT`], moved.
    ///
    /// # Errors
    /// Why the line cannot be read.
    pub fn vector(&self, line: &str) -> Result<Vector, String> {
        let read = serde_json::from_str(line).and_then(|value| serde_json::from_value(self.value(value)));
        read.map_err(|error| error.to_string())
    }

    fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(values) => Value::Array(values.into_iter().map(|value| self.value(value)).collect()),
            // Text that is written with runs is written out, lest a run break a word in two.
            Value::Object(map) if map.len() == 1 && map.contains_key("runs") => {
                let whole = serde_json::from_value(Value::Object(map.clone())).map(WrittenText::whole);
                let moved = whole.ok().map(|text| (self.text(text.clone()), text));
                match moved {
                    Some((moved, text)) if moved != text => Value::String(moved),
                    _ => Value::Object(map),
                }
            }
            Value::Object(map) => Value::Object(
                map.into_iter().map(|(key, value)| (self.text(key), self.value(value))).collect(),
            ),
            other => other,
        }
    }

    /// Text that is more than bytes is for people.
    fn text(&self, text: String) -> String {
        match latin1(&text) {
            Ok(bytes) => self.bytes(&bytes).into_iter().map(char::from).collect(),
            Err(_) => text,
        }
    }

    fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::with_capacity(bytes.len()), bytes);
        while !rest.is_empty() {
            let digit = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
            let digits = rest.iter().take_while(digit).count();
            let padding = rest[digits..].iter().take(2).take_while(|&&byte| byte == b'=').count();
            let (word, behind) = rest.split_at((digits + padding).max(1));
            out.extend(self.word(word));
            rest = behind;
        }
        self.plain(&out)
    }

    /// A word that may be base64, possibly of an envelope's or a cookie's address.
    fn word(&self, word: &[u8]) -> Vec<u8> {
        match unbase64(word) {
            Some(inner) if !inner.is_empty() && base64(&inner) == word => base64(&self.plain(&inner)),
            _ => word.to_vec(),
        }
    }

    fn plain(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes.to_vec();
        for (from, to) in &self.0 {
            let mut at = 0;
            while let Some(found) = out[at..].windows(from.len()).position(|window| window == from.as_slice())
            {
                at += found;
                out[at..at + to.len()].copy_from_slice(to);
                at += to.len();
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves() -> Moves {
        let mut moves = Moves::default();
        moves.add("127.0.0.1:21102", "127.0.0.9:40001").unwrap();
        moves
    }

    #[test]
    fn an_address_moves_wherever_it_can_be_read() {
        let moved = |text: &str| moves().text(text.to_owned());
        assert_eq!(moved("x-be: 127.0.0.1:21102\r\n"), "x-be: 127.0.0.9:40001\r\n");
        let (one, other) = (base64(b"127.0.0.1:21102"), base64(b"127.0.0.9:40001"));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let envelope = |address: &[u8]| format!("x-env: {};UV:b3JpZ2luLTE=", text(address));
        assert_eq!(moved(&envelope(&one)), envelope(&other));
        let message = |address: &str| text(&base64(format!("\n\u{f}{address}\u{10}\u{1}").as_bytes()));
        let cookie = |address| format!("a=b; sess=\"{}\"; c=d", message(address));
        assert_eq!(moved(&cookie("127.0.0.1:21102")), cookie("127.0.0.9:40001"));
    }

    #[test]
    fn what_names_no_host_stays() {
        for text in ["127.0.0.1:21103", "127.0.0.1:021102", "MTI3LjAuMC4xOjIxMTAy=", "b3JpZ2luLTE="] {
            assert_eq!(moves().text(text.to_owned()), text);
        }
        assert!(moves().add("127.0.0.1:21102", "127.0.0.9:1").is_err());
    }

    #[test]
    fn nothing_moves_is_the_file_itself() {
        for (line, read) in super::super::TEXT.lines().zip(super::super::all().unwrap()) {
            assert_eq!(format!("{:?}", Moves::default().vector(line).unwrap()), format!("{read:?}"));
        }
    }
}
