//! The house rules that a compiler does not check: who uses whom, no I/O in the core, shells without decisions, a head
//! comment on every file, no path of anybody's machine.
//!
//! Who uses whom is drawn where people read it, in the head comment of `src/lib.rs`; this test reads the drawing there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, with helpers of their own")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A source file of the core, without its tests and comments.
struct Source {
    path: PathBuf,
    /// `["exchange", "h1", "edit"]`.
    module: Vec<String>,
    code: String,
}

/// One unit of the drawing: modules that belong together, and the units they use.
struct Row {
    modules: Vec<Vec<String>>,
    name: String,
    uses: BTreeSet<String>,
}

#[test]
fn modules_use_each_other_as_drawn() {
    let sources = core_sources();
    let rows = rows();
    let known: BTreeSet<_> = sources.iter().map(|source| source.module.clone()).collect();
    let mut used: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| !source.module.is_empty()) {
        let shown = source.path.display();
        let Some(own) = unit(&rows, &source.module) else {
            faults.push(format!("{shown}: its module is in no row"));
            continue;
        };
        for path in paths(source, &known) {
            let shown_path = path.join("::");
            match unit(&rows, &path) {
                None => faults.push(format!("{shown}: {shown_path} is in no row")),
                Some(other) if other.name == own.name => {}
                Some(other) => {
                    used.entry(&own.name).or_default().insert(&other.name);
                    if !own.uses.contains(&other.name) {
                        faults.push(format!("{shown}: {} may not use {shown_path}", own.name));
                    }
                }
            }
        }
    }
    let mut above = BTreeSet::new();
    for row in &rows {
        for other in &row.uses {
            if !above.contains(other) {
                faults.push(format!("{} uses {other}, which is not drawn above it", row.name));
            }
            if !used.get(&*row.name).is_some_and(|used| used.contains(&**other)) {
                faults.push(format!("{} does not use {other} any more; erase it", row.name));
            }
        }
        above.insert(row.name.clone());
    }
    assert!(faults.is_empty(), "against the drawing in src/lib.rs:\n{}", faults.join("\n"));
}

#[test]
fn an_attempt_knows_no_protocol() {
    let rows = rows();
    let attempt = rows.iter().find(|row| row.name == "exchange::attempt").unwrap();
    for protocol in ["http1", "window", "exchange", "exchange::h1", "exchange::body"] {
        assert!(!attempt.uses.contains(protocol), "exchange::attempt uses {protocol}");
    }
}

#[test]
fn the_core_does_no_io() {
    const FORBIDDEN: [(&str, &str); 20] = [
        ("Condvar", "a lock"),
        ("Instant", "a clock"),
        ("Mutex", "a lock"),
        ("RwLock", "a lock"),
        ("SystemTime", "a clock"),
        ("TcpListener", "a socket"),
        ("TcpStream", "a socket"),
        ("ToSocketAddrs", "a resolver"),
        ("UdpSocket", "a socket"),
        ("UnixListener", "a socket"),
        ("UnixStream", "a socket"),
        ("dbg!", "output"),
        ("eprint", "output"),
        ("getrandom", "randomness"),
        ("println!", "output"),
        ("std::env", "the environment"),
        ("std::fs", "files"),
        ("std::process", "processes"),
        ("std::thread", "threads"),
        ("thread_local!", "threads"),
    ];
    for source in core_sources() {
        for (word, what) in FORBIDDEN {
            if let Some(line) = source.code.lines().find(|line| line.contains(word)) {
                panic!("{}: {what} is for the shells: {}", source.path.display(), line.trim());
            }
        }
    }
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    const PURE: [&str; 8] =
        ["arc-swap", "base64", "foldhash", "hashbrown", "httparse", "memchr", "smallvec", "wide"];
    let manifest = fs::read_to_string(core().join("Cargo.toml")).unwrap();
    let table = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let names: Vec<_> = table.lines().filter_map(|line| line.split([' ', '.', '=']).next()).collect();
    let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(PURE.contains(&name), "the core depends on {name}; if that does no I/O, add it to PURE");
    }
    let tables = manifest.lines().filter(|line| line.starts_with('[') && line.contains("dependencies"));
    assert_eq!(tables.collect::<Vec<_>>(), ["[dependencies]", "[dev-dependencies]"]);
}

#[test]
fn shells_decide_nothing() {
    const DECISIONS: [&str; 8] =
        ["affinity", "balance", "carrier", "field", "http1", "snapshot", "stats::Outcome", "token"];
    for shell in ["mio", "monoio", "shell", "tokio"] {
        let files = rust_files(&project().join("frontends").join(shell).join("src"));
        assert!(!files.is_empty(), "no files of the shell {shell}");
        for path in files {
            let code = without_tests(&fs::read_to_string(&path).unwrap());
            for decision in DECISIONS {
                let named = format!("homing_core::{decision}");
                assert!(!code.contains(&named), "{}: {named} is not for shells", path.display());
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut files = 0;
    // The fuzz targets themselves are one line each, which calls the harness.
    for folder in ["core", "frontends", "conformance", "benches", "fuzz/harness"] {
        for path in rust_files(&project().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let first = text.lines().find(|line| !line.is_empty() && !line.starts_with("#!"));
            let said = first.is_some_and(|line| line.starts_with("//! "));
            assert!(said, "{}: it has no head comment", path.display());
            files += 1;
        }
    }
    assert!(files > 100, "only {files} files were found");
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    // Joined here, so that this file does not name them.
    let paths =
        [["/wo", "rk/"], ["/tmp/", "wt"], ["/ro", "ot/"], ["/Use", "rs/"]].map(|parts| parts.concat());
    let mut files = 0;
    for path in all_files(&project()) {
        // What is no text names nothing.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        files += 1;
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(found) = paths.iter().find(|found| line.contains(*found)) {
                panic!("{}:{number} names {found}", path.display());
            }
        }
    }
    assert!(files > 150, "only {files} files were found");
}

/// The rows of the drawing in the head comment of `src/lib.rs`, from the bottom of the house up.
fn rows() -> Vec<Row> {
    let text = fs::read_to_string(core().join("src/lib.rs")).unwrap();
    let (_, rest) = text.split_once("//! # Who uses whom").unwrap();
    let (_, rest) = rest.split_once("//! ```text\n").unwrap();
    let (drawing, _) = rest.split_once("//! ```\n").unwrap();
    // A line that begins with spaces goes on with the row before it.
    let drawing = drawing.replace("\n//!   ", " ");
    let mut rows: Vec<Row> = Vec::new();
    for line in drawing.lines().map(|line| line.trim_start_matches("//!").trim()) {
        let (names, uses) = line.split_once('→').unwrap_or((line, ""));
        let uses: BTreeSet<_> = uses.split_whitespace().map(str::to_owned).collect();
        // `a + b` are one unit; `a, b` are several that use the same.
        for name in names.split(',').map(|name| name.replace(' ', "")) {
            let module = |name: &str| name.split("::").map(str::to_owned).collect::<Vec<_>>();
            let modules = name.split('+').map(module).collect();
            rows.push(Row { modules, name, uses: uses.clone() });
        }
    }
    rows
}

/// The unit of a path: the one with the module that is its longest beginning.
fn unit<'r>(rows: &'r [Row], path: &[String]) -> Option<&'r Row> {
    let length = |row: &Row| row.modules.iter().filter(|m| path.starts_with(m)).map(Vec::len).max();
    rows.iter()
        .filter_map(|row| Some((length(row)?, row)))
        .max_by_key(|(length, _)| *length)
        .map(|(_, row)| row)
}

/// Everything of the crate that a file names, as full paths.
fn paths(source: &Source, known: &BTreeSet<Vec<String>>) -> Vec<Vec<String>> {
    let words = |text: &str| -> Vec<String> {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
        text[..end].split("::").take_while(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let mut found = Vec::new();
    for (at, _) in source.code.match_indices("crate::") {
        let path = words(&source.code[at + "crate::".len()..]);
        assert!(!path.is_empty(), "{}: write one `use crate::` per module", source.path.display());
        found.push(path);
    }
    for (at, _) in source.code.match_indices("super::") {
        // The first of a chain stands for all of it.
        if source.code[..at].ends_with("::") {
            continue;
        }
        let mut path = source.module.clone();
        for word in words(&source.code[at..]) {
            if word == "super" {
                path.pop();
            } else {
                path.push(word);
            }
        }
        found.push(path);
    }
    // `use child::Thing`, in the file of its parent.
    for line in source.code.lines() {
        let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        let Some(rest) = line.trim_start_matches("pub ").strip_prefix("use ") else { continue };
        let child = [source.module.clone(), words(rest.trim_start_matches("self::"))].concat();
        let is_child = |named: &[String]| known.contains(named);
        if child.get(..=source.module.len()).is_some_and(is_child) {
            found.push(child);
        }
    }
    found
}

fn core_sources() -> Vec<Source> {
    let folder = core().join("src");
    let read = |path: PathBuf| {
        let relative = path.strip_prefix(&folder).unwrap().with_extension("");
        let words = relative.iter().map(|word| word.to_str().unwrap().to_owned());
        let module = words.filter(|word| word != "mod" && word != "lib").collect();
        let code = without_tests(&fs::read_to_string(&path).unwrap());
        Source { path, module, code }
    };
    let files = rust_files(&folder).into_iter();
    let sources: Vec<_> = files.filter(|path| !path.ends_with("tests.rs")).map(read).collect();
    assert!(sources.len() > 50, "only {} files were found", sources.len());
    sources
}

/// The text up to its tests, which come last, without comments.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_tests = |next: &&str| next.contains("mod ") && next.ends_with('{');
        if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(opens_tests) {
            break;
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    all_files(folder).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")).collect()
}

/// Everything below a folder but what is built, fetched or found there.
fn all_files(folder: &Path) -> Vec<PathBuf> {
    const NOT_OURS: [&str; 9] =
        [".cache", ".git", ".venv", "__pycache__", "artifacts", "bin", "corpus", "node_modules", "target"];
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // A folder that is not there has no files; each check counts what it found.
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_symlink() || NOT_OURS.contains(&&*name) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn core() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn project() -> PathBuf {
    core().parent().unwrap().to_owned()
}
