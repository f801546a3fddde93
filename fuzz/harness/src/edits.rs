//! Head edits: made in place in the window, against a head that is put together anew.

use homing_core::http1::{EditError, Edits};
use homing_core::limits::{HEADROOM, WINDOW_LARGE, WINDOW_SMALL};
use homing_core::window::Window;

use crate::input::Input;

/// One edit as it was noted.
struct Noted {
    start: usize,
    end: usize,
    text: Vec<u8>,
}

/// The input as a head and a list of edits with any spans.
pub fn edits(data: &[u8]) {
    let mut input = Input::new(data);
    let large = input.byte() % 2 == 1;
    let headroom = input.short() % (HEADROOM + 1);
    let body_len = input.short() % WINDOW_LARGE;
    let head_len = input.byte().max(2).into();
    let mut head: Vec<u8> = (0..head_len).map(|at| b'a' + (at % 26) as u8).collect();
    head.splice(head_len - 2.., *b"\r\n");
    let body: Vec<u8> = (0..body_len).map(|at| b'0' + (at % 10) as u8).collect();

    let mut edits = Edits::new();
    let (mut noted, mut lines) = (Vec::new(), Vec::new());
    while !input.is_empty() && noted.len() < 60 {
        note(&mut input, head_len, &mut edits, &mut noted, &mut lines);
    }
    let expected = by_hand(&head, noted, &lines);

    let class = if large { WINDOW_LARGE } else { WINDOW_SMALL };
    let Some(mut window) = window(&[&head[..], &body].concat(), headroom, class) else { return };
    let before = window.live().to_vec();
    match edits.apply(&mut window, head_len) {
        Ok(length) => {
            assert_eq!(length, expected.len());
            assert_eq!(
                window.live().escape_ascii().to_string(),
                [&expected[..], &body].concat().escape_ascii().to_string()
            );
        }
        Err(EditError::NoRoom) => {
            assert!(expected.len() + body.len() + HEADROOM > class, "there is room");
            assert_eq!(window.live(), before, "a window without room stays as it is");
        }
    }
}

fn note(
    input: &mut Input<'_>,
    head_len: usize,
    edits: &mut Edits,
    noted: &mut Vec<Noted>,
    lines: &mut Vec<u8>,
) {
    let kind = input.byte();
    let length = usize::from(input.byte()) * if kind & 0x80 == 0 { 1 } else { 20 };
    let text: Vec<u8> = (0..length).map(|at| b'A' + (at % 26) as u8).collect();
    if kind % 4 == 3 {
        edits.append_line(b"new", &text);
        lines.extend([b"new: ", &text[..], b"\r\n"].concat());
        return;
    }
    let start = input.below(head_len - 1);
    let end = start + input.below(head_len - 1 - start);
    edits.replace(start..end, &text);
    noted.push(Noted { start, end, text });
}

/// Edits that begin inside another one's span lose their text, and the spans are merged. Of those that begin at the same
/// place the shorter span is first, then the one that was noted first.
fn by_hand(head: &[u8], mut noted: Vec<Noted>, lines: &[u8]) -> Vec<u8> {
    noted.sort_by_key(|edit| (edit.start, edit.end));
    let mut merged: Vec<Noted> = Vec::new();
    for edit in noted {
        match merged.last_mut() {
            Some(last) if edit.start < last.end => last.end = last.end.max(edit.end),
            _ => merged.push(edit),
        }
    }
    let mut edited = head.to_vec();
    edited.splice(head.len() - 2..head.len() - 2, lines.iter().copied());
    for edit in merged.into_iter().rev() {
        edited.splice(edit.start..edit.end, edit.text);
    }
    edited
}

/// A window that holds `message`, with at most `headroom` bytes in front.
fn window(message: &[u8], headroom: usize, class: usize) -> Option<Window> {
    let mut window = Window::new();
    window.attach(vec![0; class].into());
    let front = (HEADROOM - headroom).min(message.len());
    window.grow_front(front).then_some(())?;
    window.live_mut().copy_from_slice(&message[..front]);
    (window.push(&message[front..]) == message.len() - front).then_some(window)
}
