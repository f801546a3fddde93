//! The built program: exit codes, what it prints, and that nothing is started when the configuration is wrong.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SAMPLE: &str = "ChAxMC4wLjQzLjE3NTo4MDgwELerCQ==";

fn homing(arguments: &[&str]) -> Result<Output, std::io::Error> {
    Command::new(env!("CARGO_BIN_EXE_homing")).args(arguments).env_remove("RUST_LOG").output()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name).display().to_string()
}

/// A file for one test.
fn file(name: &str, text: &str) -> Result<PathBuf, std::io::Error> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("command_line");
    fs::create_dir_all(&directory)?;
    let path = directory.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

#[test]
fn check_says_what_would_run() {
    let output = homing(&["check", &example("header.yaml")]).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.contains("runtime auto, no access log"), "{first}");
    assert_eq!(
        rest,
        "listener api on [::1]:8081\n\
         \x20 * /v1/*: to app; session in header x-session-id, strict (410 when gone)\n\
         \x20 * /*: answer 404 with 23 bytes\n\
         cluster app (3 hosts): 127.0.0.1:9001, 127.0.0.1:9002, 127.0.0.1:9003\n"
    );
}

#[test]
fn check_takes_documents_of_gloo_beside_the_file() {
    let output = homing(&["check", &example("gloo/homing.yaml"), &example("gloo/session.yaml")]).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(lines[1], "  * /*: to httpbin; session in cookie statefulsessioncookie for 1m");
    assert_eq!(lines[3], "  * /*: to httpbin; session in cookie statefulsessioncookie for 1m");
    assert_eq!(lines[5], "  * /*: to httpbin; no session");
}

#[test]
fn a_bad_configuration_exits_2_and_names_every_place() {
    let path = file("bad.yaml", "listeners: []\nworkers: 0\n").unwrap();
    let path = path.display();
    let expected = format!(
        "{path}:1:12: listeners: this list is empty; add at least one item\n\
         {path}:2:10: workers: expected a whole number from 1 to 1024, found the number 0; choose one of these\n\
         homing: 2 problems in the configuration, nothing was started\n"
    );
    for command in ["check", "run"] {
        let output = homing(&[command, &path.to_string()]).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert_eq!((stderr(&output), stdout(&output)), (expected.clone(), String::new()), "{command}");
    }
}

#[test]
fn the_configuration_of_the_demo_is_one_that_can_be_run() {
    let ports = [
        "--cookie-port",
        "4001",
        "--header-port",
        "4002",
        "--upstream-ports",
        "4003,4004",
        "--runtime",
        "mio",
    ];
    let printed = homing(&[["demo", "--print-config"].as_slice(), &ports].concat()).unwrap();
    assert_eq!(printed.status.code(), Some(0), "{}", stderr(&printed));
    let path = file("demo.yaml", &stdout(&printed)).unwrap();
    let output = homing(&["check", &path.display().to_string()]).unwrap();
    assert_eq!(
        stdout(&output),
        "1 worker, runtime mio, access log to stdout\n\
         listener cookie on 127.0.0.1:4001\n\
         \x20 * /*: to demo; session in cookie statefulsessioncookie for 1m\n\
         listener header on 127.0.0.1:4002\n\
         \x20 * /*: to demo; session in header x-session-id\n\
         cluster demo (2 hosts): 127.0.0.1:4003, 127.0.0.1:4004\n"
    );
}

#[test]
fn a_demo_whose_port_is_taken_says_so_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = homing(&["demo", "--cookie-port", &port, "--header-port", "0", "--upstream-ports", "0,0"]);
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected =
        format!("listener cookie: 127.0.0.1:{port} is already in use; choose another with --cookie-port");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_file_that_is_not_there_exits_2() {
    let output = homing(&["run", "/nonexistent/homing.yaml"]).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("/nonexistent/homing.yaml: the file cannot be read: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_bad_configuration_opens_no_socket() {
    // The port is taken: a program that tried to listen first would complain about that.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "listeners: [{{ name: web, address: \"{address}\", routes: [{{ forward: {{ cluster: no }} }}] }}]\n"
    );
    let path = file("no_socket.yaml", &text).unwrap();
    let output = homing(&["run", &path.display().to_string()]).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("there is no cluster \"no\"; add it to `clusters`"),
        "{}",
        stderr(&output)
    );
    assert!(!stderr(&output).contains("in use"), "{}", stderr(&output));
}

#[test]
fn misuse_of_the_command_line_exits_2() {
    let cases: &[&[&str]] = &[
        &[],
        &["fly"],
        &["run"],
        &["check"],
        &["run", "--listen", "127.0.0.1:0"],
        &["run", "--upstream", "127.0.0.1:1", "--cookie", "sid"],
        &["run", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1"],
        &["run", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "--cookie", "a", "--header", "b"],
        &["run", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "--header", "b", "--ttl", "60s"],
        &["run", "a.yaml", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "--header", "b"],
        &["run", "a.yaml", "--strict"],
        &["run", "a.yaml", "--envoy", "b.yaml"],
        &["run", "--envoy", "/nonexistent/b.yaml"],
        &["check", "a.yaml", "--envoy", "b.yaml"],
        &["run", "a.yaml", "--cookie", "sid"],
        &["run", "a.yaml", "--workers", "0"],
        &["run", "a.yaml", "--runtime", "tokyo"],
        &["demo", "--runtime", "tokyo"],
        &["demo", "--ttl", "soon"],
        &["demo", "--ttl", "soon", "--print-config"],
        &["demo", "--upstream-ports", "7"],
        &["demo", "--workers", "0"],
        &["token", "decode"],
        &["token", "encode"],
        &["token", "encode", "--address", "app.internal:80"],
        &["token", "encode", "--address", "10.0.0.1:80", "--ttl", "60"],
        &["token", "encode", "--address", "10.0.0.1:80", "--ttl", "60s", "--expires", "5"],
        &["token", "encode", "--address", "10.0.0.1:80", "--form", "header", "--ttl", "60s"],
        &["token", "encode", "--address", "10.0.0.1:80", "--form", "envelope"],
    ];
    for arguments in cases {
        let output = homing(arguments).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty() && stdout(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn wrong_options_are_named() {
    let output =
        homing(&["run", "--listen", "here", "--upstream", "127.0.0.1:1", "--header", "set-cookie"]).unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("--listen: \"here\" is not an address to listen on; "), "{text}");
    assert!(
        text.contains("--header: `set-cookie` has a meaning of its own and cannot carry a session; "),
        "{text}"
    );
}

#[test]
fn a_bad_log_level_exits_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_homing"))
        .args(["run", &example("cookie.yaml")])
        .env("RUST_LOG", "homing=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("RUST_LOG=\"homing=loud\" cannot be read"), "{}", stderr(&output));
}

#[test]
fn decode_explains_a_published_sample() {
    let output =
        homing(&["token", "decode", &format!("set-cookie: sid=\"{SAMPLE}\"; Max-Age=60; HttpOnly")]).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(
        text.starts_with("form:     cookie (address and expiry)\naddress:  10.0.43.175:8080\n"),
        "{text}"
    );
    assert!(text.contains("expires:  153015 = 1970-01-02 18:30:15 UTC, "), "{text}");
    assert!(text.contains("expired: the session is placed anew (reason placed.expired)"), "{text}");
    assert!(
        text.contains("It looks like seconds of uptime (1 d 18 h) written by an Envoy before 1.39"),
        "{text}"
    );
}

#[test]
fn decode_exits_1_when_a_value_is_no_token() {
    let output = homing(&["token", "decode", SAMPLE, "nonsense"]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("10.0.43.175:8080") && text.contains("\n\nno token: "), "{text}");
    assert!(text.contains("reason placed.malformed"), "{text}");
    let empty = homing(&["token", "decode", ""]).unwrap();
    assert!(stdout(&empty).contains("reason placed.absent"), "the proxy's own word: {}", stdout(&empty));
}

#[test]
fn minted_tokens_read_back() {
    let cases: &[(&[&str], &str)] = &[
        (&["--expires", "153015"], "10.0.43.175:8080"),
        (&["--ttl", "1h"], ", in "),
        (&["--form", "header"], "expires:  never"),
        (&["--form", "legacy"], "expires:  never"),
        (&["--form", "envelope", "--session", "abc"], "session:  abc"),
    ];
    for (arguments, expected) in cases {
        let base = ["token", "encode", "--address", "10.0.43.175:8080"];
        let minted = homing(&[&base, *arguments].concat()).unwrap();
        assert_eq!(minted.status.code(), Some(0), "{}", stderr(&minted));
        let token = stdout(&minted);
        let read = homing(&["token", "decode", token.trim()]).unwrap();
        assert_eq!(read.status.code(), Some(0), "{token}");
        assert!(stdout(&read).contains(expected), "{token}: {}", stdout(&read));
    }
    let minted =
        homing(&["token", "encode", "--address", "10.0.43.175:8080", "--expires", "153015"]).unwrap();
    assert_eq!(stdout(&minted), format!("{SAMPLE}\n"));
}

/// What is promised to connections is there, and little more than that.
#[cfg(target_os = "linux")]
#[test]
fn the_connections_that_are_said_to_fit_do() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;
    use std::process::Stdio;

    for runtime in ["mio", "tokio", "auto"] {
        let mut limited = Command::new("sh");
        limited.args(["-c", "ulimit -n 100 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_homing"), "run"]);
        limited.args(["--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1", "--header", "x-session-id"]);
        limited.args(["--workers", "1", "--runtime", runtime]).env_remove("RUST_LOG").stderr(Stdio::piped());
        let mut program = limited.spawn().unwrap();
        let mut said = BufReader::new(program.stderr.take().unwrap()).lines().map(Result::unwrap);
        let about = said.find_map(|line| Some(line.split_once("about ")?.1.to_owned())).unwrap();
        let fit: usize = about.split(' ').next().unwrap().parse().unwrap();
        let ready = said.find_map(|line| Some(line.split_once(" on 127.0.0.1:")?.1.to_owned())).unwrap();
        let port: String = ready.chars().take_while(char::is_ascii_digit).collect();
        // A worker that answers has everything that it opens for itself, and the connection.
        let mut client = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        client.read_exact(&mut [0; 12]).unwrap();
        let open = fs::read_dir(format!("/proc/{}/fd", program.id())).unwrap().count();
        program.kill().unwrap();
        program.wait().unwrap();
        assert!((90..=100).contains(&(open - 1 + 2 * fit)), "{runtime}: {open} and {fit} connections");
    }
}
