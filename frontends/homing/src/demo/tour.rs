//! The text `homing demo` prints: what to try, and what to look for.

use std::net::SocketAddr;

/// The tour of a demo whose proxies listen at these two addresses: one that keeps sessions in the cookie
/// `statefulsessioncookie` (path `/`, with this life), one that keeps them in the header `x-session-id`.
/// Every command works when pasted.
pub fn tour_text(cookie_proxy: SocketAddr, header_proxy: SocketAddr, ttl: &str) -> String {
    let (cookie, header) = (format!("http://{cookie_proxy}"), format!("http://{header_proxy}"));
    format!(
        r#"Two upstream instances, "one" and "two", stand behind two proxies:

  {cookie}   sessions travel in the cookie statefulsessioncookie ({ttl})
  {header}   sessions travel in the header x-session-id

1. A browser. Open {cookie}/ and reload: the name stays, the count goes up.
   A private window may come to the other instance, and then stays there.

2. A cookie session.

     curl -i -c /tmp/homing-demo.jar {cookie}/headers

   Look for: one line set-cookie: statefulsessioncookie="..."; Max-Age=...; Path=/; HttpOnly
   and "instance" in the body. Then come back with the cookie:

     for i in 1 2 3 4 5; do
       curl -si -b /tmp/homing-demo.jar {cookie}/headers | grep -iE '^(x-instance|set-cookie)'
     done

   Look for: five times the same x-instance, and no new cookie. Without -b the instances take turns.

3. A header session.

     curl -i {header}/headers

   Look for: 200, and x-session-id: the base64 of the instance's ip:port. Send it back:

     id=$(curl -si {header}/headers | tr -d '\r' | sed -n 's/^x-session-id: //p')
     echo "$id" | base64 -d; echo
     for i in 1 2 3 4 5; do
       curl -si -H "x-session-id: $id" {header}/headers | grep -i '^x-instance'
     done

   Look for: five times the same x-instance.

4. A long answer stays home too.

     curl -N -b /tmp/homing-demo.jar '{cookie}/sse?count=3'

   Look for: three events, a second apart, from the instance of step 2. (The cookie lives for {ttl}.)

Below, a line of the access log for each request: "reason" says why it went where it went. Ctrl-C ends the demo.
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tour_names_both_proxies_also_with_ipv6() {
        let text = tour_text("127.0.0.1:8080".parse().unwrap(), "[::1]:8081".parse().unwrap(), "60s");
        assert!(text.contains("curl -i http://[::1]:8081/headers"), "{text}");
        assert!(text.contains("Open http://127.0.0.1:8080/ and reload"), "{text}");
        assert!(text.lines().all(|line| line.len() < 125), "{text}");
    }
}
