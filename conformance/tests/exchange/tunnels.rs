//! Upgrades, tunnels and CONNECT.

use super::*;
use homing_conformance::memory::Ended;
use homing_core::route::Forward;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

fn echoing(seed: u64) -> Lab {
    lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| {
        let mut script = vec![Act::Delay(10)];
        script.extend(answer(SWITCHED));
        script.push(Act::Echo);
        script
    })
}

#[test]
fn bytes_behind_an_upgrade_wait_for_the_101_and_then_pass() {
    ways(|seed| {
        let mut lab = echoing(seed);
        let id = sent(&mut lab, format!("{UPGRADE}early"));
        assert!(!lab.wires()[0].1.ends_with(b"early"), "the host has not switched yet");
        lab.advance(Duration::from_millis(20));
        let head = text(&lab, id);
        assert!(head.starts_with("HTTP/1.1 101") && head.ends_with("\r\n\r\nearly"), "{head:?}");
        let request = String::from_utf8_lossy(&lab.wires()[0].1).to_lowercase();
        assert!(request.contains("connection: upgrade") && request.contains("upgrade: websocket"));
        lab.client_send(id, " and late");
        lab.run();
        assert!(text(&lab, id).ends_with("early and late"));
        lab.client_half_close(id);
        lab.run();
        assert_eq!(lab.client_ended(id), Some(Ended::Close), "the echo's end follows the client's");
        let record = lab.outcomes()[0];
        assert_eq!((record.outcome.status, record.outcome.ending), (101, Ending::Complete));
        assert_eq!((lab.outcomes().len(), lab.open_wires(), lab.pooled()), (1, 0, 0));
    });
}

#[test]
fn a_declined_upgrade_is_an_ordinary_exchange() {
    ways(|seed| {
        let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", seed);
        let id = sent(&mut lab, format!("{UPGRADE}{GET}"));
        assert_eq!(statuses(&lab, id), [200, 200]);
        assert_eq!((lab.wires().len(), lab.requests().len()), (1, 2));
    });
}

#[test]
fn either_side_of_a_tunnel_can_close_first() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| {
            let mut script = answer(SWITCHED);
            script.extend(answer("bye"));
            script.push(Act::CloseSend);
            script
        });
        let id = sent(&mut lab, UPGRADE);
        assert!(lab.client_is_half_closed(id) && !lab.client_is_closed(id));
        lab.client_send(id, "thanks");
        lab.run();
        assert!(lab.wires()[0].1.ends_with(b"thanks"));
        lab.client_half_close(id);
        lab.run();
        assert_eq!(lab.client_ended(id), Some(Ended::Close));
        assert_eq!(endings(&lab), [Ending::Complete]);
    });
}

#[test]
fn a_silent_tunnel_ends_after_its_time_whichever_side_is_open() {
    ways(|seed| {
        for half in [None, Some(true), Some(false)] {
            let mut lab = lab(Builder::forward(&[HOST]), seed).with(move |_: &str, _: &Request| {
                let mut script = answer(SWITCHED);
                script.extend((half == Some(false)).then_some(Act::CloseSend));
                script.push(Act::Hold);
                script
            });
            let id = sent(&mut lab, UPGRADE);
            if half == Some(true) {
                lab.client_half_close(id);
                lab.run();
            }
            lab.advance(seconds(3500));
            assert!(!lab.client_is_closed(id));
            lab.advance(seconds(110));
            assert!(lab.client_is_closed(id), "{half:?}");
            assert_eq!((lab.outcomes().len(), lab.open_wires()), (1, 0));
        }
    });
}

#[test]
fn bytes_keep_a_tunnel_open() {
    ways(|seed| {
        let mut lab = echoing(seed);
        let id = sent(&mut lab, UPGRADE);
        for _ in 0..4 {
            lab.advance(seconds(3000));
            lab.client_send(id, ".");
            lab.run();
        }
        assert!(!lab.client_is_closed(id) && text(&lab, id).ends_with("...."));
        lab.advance(seconds(3601));
        assert!(lab.client_is_closed(id));
    });
}

#[test]
fn a_reset_on_either_side_of_a_tunnel_reaches_the_other() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| {
            let mut script = answer(SWITCHED);
            script.extend([Act::Delay(50), Act::Reset]);
            script
        });
        let id = sent(&mut lab, UPGRADE);
        lab.advance(seconds(1));
        assert_eq!(lab.client_ended(id), Some(Ended::Reset));
        assert_eq!(endings(&lab), [Ending::UpstreamReset]);

        let mut lab = echoing(seed);
        let id = sent(&mut lab, UPGRADE);
        lab.advance(seconds(1));
        lab.client_reset(id);
        lab.run();
        assert_eq!((endings(&lab), lab.open_wires()), (vec![Ending::ClientLeft], 0));
    });
}

#[test]
fn a_switch_that_nobody_asked_for_is_no_response() {
    ways(|seed| {
        let mut lab = one_host(SWITCHED, seed);
        let id = sent(&mut lab, GET);
        assert_eq!(statuses(&lab, id), [502]);
        let id = sent(&mut lab, "GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        assert_eq!(statuses(&lab, id), [502]);
        let mut lab = one_host("HTTP/1.1 101 Switching Protocols\r\n\r\n", seed);
        let id = sent(&mut lab, UPGRADE);
        assert_eq!(statuses(&lab, id), [502]);
        assert_eq!(endings(&lab), [Ending::UpstreamMalformed]);
    });
}

#[test]
fn a_host_that_never_answers_an_upgrade_takes_too_long() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| vec![Act::Hold]);
        let id = sent(&mut lab, UPGRADE);
        lab.advance(seconds(61));
        assert_eq!(statuses(&lab, id), [504]);
        lab.client_send(id, GET);
        lab.advance(seconds(61));
        assert_eq!(statuses(&lab, id), [504, 504]);
    });
}

#[test]
fn a_route_without_upgrades_forbids_them() {
    ways(|seed| {
        let mut builder = Builder::new();
        let app = builder.cluster("app", &[HOST]);
        builder.route_with("/", app, |forward: &mut Forward| forward.upgrades = false);
        let mut lab = lab(builder, seed);
        let id = sent(&mut lab, format!("{UPGRADE}{GET}"));
        assert_eq!(statuses(&lab, id), [403, 200]);
    });
}

#[test]
fn connect_is_refused() {
    ways(|seed| {
        let mut lab = one_host("", seed);
        let id = sent(&mut lab, "CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\n");
        let response = &lab.client_responses(id, &[])[0];
        assert_eq!((response.status, response.field("allow").is_some()), (405, true));
        assert!(lab.wires().is_empty());
        assert_eq!(endings(&lab), [Ending::Answered]);
    });
}

#[test]
fn an_upgrade_to_h2c_is_not_asked_for_at_all() {
    ways(|seed| {
        for lines in [
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
            "connection: Upgrade\r\nupgrade: websocket, H2C\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
            "connection: upgrade\r\nupgrade: websocket\r\nupgrade: h2c/1\r\n",
        ] {
            let asked = format!("GET /a HTTP/1.1\r\nhost: x\r\n{lines}\r\n");
            let mut lab = one_host("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", seed);
            let id = sent(&mut lab, &asked);
            assert_eq!(statuses(&lab, id), [200]);
            let seen = &lab.requests()[0].1;
            for name in ["connection", "upgrade", "http2-settings"] {
                assert_eq!(seen.field(name), None, "{lines:?}");
            }

            // A host that switches all the same is not followed: its frames would pass unseen by every rule.
            let mut lab = one_host(SWITCHED, seed);
            let id = sent(&mut lab, &asked);
            assert_eq!(statuses(&lab, id), [502]);

            // Nor does a route without upgrades turn such a client away: it asked for something that is optional.
            let mut builder = Builder::new();
            let app = builder.cluster("app", &[HOST]);
            builder.route_with("/", app, |forward: &mut Forward| forward.upgrades = false);
            let mut lab = self::lab(builder, seed);
            let id = sent(&mut lab, &asked);
            assert_eq!(statuses(&lab, id), [200]);
        }
    });
}

#[test]
fn a_client_that_leaves_while_its_upgrade_is_considered_is_noticed() {
    ways(|seed| {
        let mut lab = lab(Builder::forward(&[HOST]), seed).with(|_: &str, _: &Request| vec![Act::Hold]);
        let id = sent(&mut lab, UPGRADE);
        lab.advance(seconds(2));
        lab.client_close(id);
        lab.advance(seconds(1));
        assert_eq!((endings(&lab), lab.open_wires()), (vec![Ending::ClientLeft], 0));
    });
}
