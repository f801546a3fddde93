//! The exchange.
use homing_conformance::build::Builder;
use homing_conformance::memory::{Knobs, Lab};

const HOST: &str = "10.0.0.1:80";

#[test]
fn a_connection_serves_one_request_after_another() {
    for seed in 0..50 {
        let mut lab = Lab::new(Builder::forward(&[HOST]).build(), seed).rough(Knobs::drawn(seed));
        let id = lab.client();
        for _ in 0..3 {
            lab.client_send(id, "GET /a HTTP/1.1\r\nhost: x\r\n\r\n");
            lab.run();
        }
        assert_eq!(lab.client_responses(id, &[]).len(), 3);
        assert_eq!(lab.outcomes().len(), 3);
        assert_eq!(lab.open_wires(), 1);
        lab.advance(std::time::Duration::from_secs(200));
        assert!(lab.client_is_closed(id));
        assert_eq!(lab.open_wires(), 0);
    }
}
