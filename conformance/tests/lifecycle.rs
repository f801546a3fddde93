//! Holds the tables of `LIFECYCLE.md` against the tables the core runs on, both ways.

use homing_core::exchange::machine::{JOINT, REQUEST_MOVES, RESPONSE_MOVES};

const TEXT: &str = include_str!("../../core/src/exchange/LIFECYCLE.md");

/// The cells of the first table below `heading`, without its head.
fn table(heading: &str) -> Vec<Vec<String>> {
    let found = TEXT.split_once(&format!("\n{heading}\n"));
    assert!(found.is_some(), "no {heading:?}");
    let rest = found.map_or("", |(_, rest)| rest);
    let lines =
        rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.skip(2).map(cells).collect()
}

fn sorted(mut rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    rows.sort();
    let count = rows.len();
    rows.dedup();
    assert_eq!(rows.len(), count, "a row stands twice");
    rows
}

/// Debug texts of states, as table cells.
fn cells(states: &[&dyn std::fmt::Debug]) -> Vec<String> {
    states.iter().map(|state| format!("{state:?}")).collect()
}

fn moves(heading: &str) -> Vec<Vec<String>> {
    let rows = table(heading);
    assert!(rows.iter().all(|row| row.len() == 3 && !row[2].is_empty()), "{heading}: each move says when");
    sorted(rows.into_iter().map(|row| row[..2].to_vec()).collect())
}

#[test]
fn the_drawn_moves_are_the_moves() {
    let request = REQUEST_MOVES.iter().map(|(from, to)| cells(&[from, to])).collect();
    assert_eq!(moves("### Request moves"), sorted(request));
    let response = RESPONSE_MOVES.iter().map(|(from, to)| cells(&[from, to])).collect();
    assert_eq!(moves("### Response moves"), sorted(response));
}

#[test]
fn the_drawn_joint_table_is_the_joint_table() {
    let joint = JOINT.iter().map(|(request, response, call)| cells(&[request, response, call])).collect();
    assert_eq!(sorted(table("## The joint table")), sorted(joint));
}

#[test]
fn every_state_is_explained_and_no_other() {
    for (heading, mut states) in [
        ("## The request half", REQUEST_MOVES.iter().flat_map(|(a, b)| cells(&[a, b])).collect::<Vec<_>>()),
        ("## The response half", RESPONSE_MOVES.iter().flat_map(|(a, b)| cells(&[a, b])).collect()),
    ] {
        states.sort();
        states.dedup();
        let mut explained: Vec<String> =
            table(heading).iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
        explained.sort();
        assert_eq!(explained, states, "{heading}");
    }
}
