//! A sticky proxy on Pingora, as short as its users would write it: the cookie `SRV=sN` names the upstream, and a
//! request without one is given the next in turn and told so by `Set-Cookie`.
//!
//! `pingora_sticky PORT UPSTREAM_PORT...`, all on 127.0.0.1.

use std::process::exit;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::prelude::{HttpPeer, Result, Server};
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;

struct Sticky {
    homes: Vec<Home>,
    turn: AtomicUsize,
}

struct Home {
    peer: HttpPeer,
    /// What a client sends to come back: `SRV=sN`.
    cookie: String,
}

/// Where one request goes.
#[derive(Default)]
struct Routed {
    home: usize,
    is_new: bool,
}

impl Sticky {
    fn home_in_cookies(&self, session: &Session) -> Option<usize> {
        let lines = session.req_header().headers.get_all("cookie").iter();
        let mut cookies = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';'));
        cookies.find_map(|cookie| {
            self.homes.iter().position(|home| home.cookie.as_bytes() == cookie.trim_ascii())
        })
    }
}

#[async_trait]
impl ProxyHttp for Sticky {
    type CTX = Routed;

    fn new_ctx(&self) -> Routed {
        Routed::default()
    }

    async fn upstream_peer(&self, session: &mut Session, routed: &mut Routed) -> Result<Box<HttpPeer>> {
        *routed = match self.home_in_cookies(session) {
            Some(home) => Routed { home, is_new: false },
            None => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                Routed { home: turn % self.homes.len(), is_new: true }
            }
        };
        Ok(Box::new(self.homes[routed.home].peer.clone()))
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        routed: &mut Routed,
    ) -> Result<()> {
        if routed.is_new {
            let cookie = format!("{}; Path=/", self.homes[routed.home].cookie);
            response.append_header("Set-Cookie", cookie)?;
        }
        Ok(())
    }
}

fn main() {
    let ports: Option<Vec<u16>> = std::env::args().skip(1).map(|text| text.parse().ok()).collect();
    let Some([port, upstreams @ ..]) = ports.as_deref().filter(|ports| ports.len() > 1) else {
        eprintln!("expected PORT UPSTREAM_PORT..., numbers from 0 to 65535");
        exit(2);
    };
    let homes = upstreams.iter().enumerate().map(|(number, port)| Home {
        peer: HttpPeer::new(("127.0.0.1", *port), false, String::new()),
        cookie: format!("SRV=s{number}"),
    });
    let sticky = Sticky { homes: homes.collect(), turn: AtomicUsize::new(0) };

    let conf =
        ServerConf { threads: 1, work_stealing: false, upstream_keepalive_pool_size: 512, ..Default::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, sticky);
    service.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(service);
    server.run_forever();
}
