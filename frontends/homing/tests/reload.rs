//! The built program, reloaded while clients hold keep-alive connections and tunnels: by SIGHUP and by a change of the
//! file, on each shell; and the caps on client connections. Every wait is for something seen: a line of the log, an answer,
//! the end of a connection.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests, with helpers of their own"
)]

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nothing takes so long unless it hangs; then the test fails instead of hanging too.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq)]
enum Trigger {
    Signal,
    File,
}

#[test]
fn mio_by_signal() {
    reloads("mio", Trigger::Signal);
}

#[test]
fn mio_by_file() {
    reloads("mio", Trigger::File);
}

#[test]
fn tokio_by_signal() {
    reloads("tokio", Trigger::Signal);
}

#[test]
fn tokio_by_file() {
    reloads("tokio", Trigger::File);
}

#[test]
fn monoio_by_signal() {
    reloads("monoio", Trigger::Signal);
}

#[test]
fn monoio_by_file() {
    reloads("monoio", Trigger::File);
}

/// Drains a host, removes it, breaks the file, asks for what cannot be; and the program drains in the end. One client
/// connection and one tunnel live through all of it.
fn reloads(runtime: &str, trigger: Trigger) {
    let hosts: Vec<Host> = (0..3).map(|_| Host::start()).collect();
    let [one, two, three] = [0, 1, 2].map(|nth| hosts[nth].address.to_string());
    let file = File::new(&format!("{runtime}-{}", if trigger == Trigger::File { "file" } else { "signal" }));
    let common = format!(
        "runtime: {runtime}\nreload: {{ watch: {} }}\n",
        if trigger == Trigger::File { "20ms" } else { "0s" }
    );
    file.write(&(common.clone() + "workers: 2\n" + &configuration(&[&one, &two])));
    let Some(mut program) = Program::start(&file) else { return };
    let change = |program: &mut Program, text: &str, reason: &str| {
        file.write(text);
        if trigger == Trigger::Signal {
            program.signal(Signal::SIGHUP);
        }
        program.wait_for(reason)
    };

    let mut client = program.client("web");
    let first = client.get("");
    let cookie = format!("cookie: {}\r\n", first.field("set-cookie").unwrap().split(';').next().unwrap());
    let home = first.field("x-be").unwrap().to_owned();
    let (at_home, other) = if home == one { (&hosts[0], two.clone()) } else { (&hosts[1], one.clone()) };
    let mut tunnel = program.client("web");
    assert_eq!(tunnel.upgrade(&cookie).field("x-be"), Some(&*home));
    tunnel.echo("before");
    let firm = program.client("firm").placed_at(&home);
    let number = client.get(&cookie).field("x-link").unwrap().to_owned();

    // The home drains, the other host is gone, a third one is there.
    let draining = format!("{{ address: \"{home}\", admission: draining }}");
    let line = change(
        &mut program,
        &(common.clone() + "workers: 2\n" + &configuration(&[&draining, &three])),
        "reload.applied",
    );
    for part in [
        format!("1 added (app/{three})"),
        format!("1 removed (app/{other})"),
        format!("1 changed (app/{home})"),
    ] {
        assert!(line.contains(&part), "{line}");
    }
    program.client_until("web", "", |answer| answer.field("x-be") == Some(&*three));
    let answer = client.get(&cookie);
    assert_eq!((answer.field("x-be"), answer.field("set-cookie")), (Some(&*home), None));
    assert_eq!(program.client("firm").get(&firm).field("x-be"), Some(&*home));
    tunnel.echo("while it drains");

    // The home is gone: soft sessions are placed anew, strict ones refused, what is open goes on, and the link is closed.
    change(&mut program, &(common.clone() + "workers: 2\n" + &configuration(&[&three])), "reload.applied");
    let answer = client.until(&cookie, |answer| answer.field("x-be") != Some(&*home));
    assert_eq!(answer.field("x-be"), Some(&*three));
    assert!(answer.field("set-cookie").is_some(), "a new home is written into a new token");
    program.client_until("firm", &firm, |answer| answer.status() == "410");
    at_home.wait_for(&format!("end of {number}"));
    tunnel.echo("after its host has left");

    // A mistake changes nothing.
    let line = change(&mut program, "listeners: []\n", "reload.rejected");
    assert!(line.contains(&format!("{}:1:12: listeners: this list is empty", file.path.display())), "{line}");
    program.wait_for("the old configuration stays in force");
    assert_eq!(program.client("web").get("").field("x-be"), Some(&*three));

    // What needs a restart is said, and the rest is done.
    let text = common + "workers: 1\n" + &configuration(&[&three, &other]);
    let line = change(&mut program, &text, "reload.restart_needed");
    assert!(line.contains("workers: there are 2 until a restart"), "{line}");
    assert!(program.wait_for("reload.applied").contains(&format!("1 added (app/{other})")));
    program.client_until("web", "", |answer| answer.field("x-be") == Some(&*other));
    assert_eq!(client.get("").status(), "200", "the first connection still lives");

    // Nothing changes once the program drains, and the tunnel is not cut.
    program.signal(Signal::SIGTERM);
    program.wait_for("draining:");
    program.signal(Signal::SIGHUP);
    program.wait_for("reload.draining");
    tunnel.echo("to the end");
    drop(tunnel);
    assert!(program.ends().success());
}

#[test]
fn caps_on_connections_hold_over_all_workers_and_the_rest_works_on() {
    for runtime in ["mio", "tokio", "monoio"] {
        let host = Host::start();
        let file = File::new(&format!("caps-{runtime}"));
        let text = format!(
            "runtime: {runtime}\nworkers: 2\nlimits: {{ connections: 3 }}\nroutes: [{{ forward: {{ cluster: app }} }}]\n\
             listeners:\n- {{ name: narrow, address: \"127.0.0.1:0\", connections: 1 }}\n\
             - {{ name: wide, address: \"127.0.0.1:0\" }}\nclusters: [{{ name: app, hosts: [\"{}\"] }}]\n",
            host.address
        );
        file.write(&text);
        let Some(mut program) = Program::start(&file) else { continue };
        let mut first = program.client("narrow");
        first.get("");
        let mut second = program.client("narrow");
        second.ask("");
        program.wait_for("reason=\"listener_connections\"");
        let mut wide = [program.client("wide"), program.client("wide")];
        wide.iter_mut().for_each(|client| assert_eq!(client.get("").status(), "200"));
        assert!(second.has_nothing(), "{runtime}: the narrow listener is full");
        let mut third = program.client("wide");
        third.ask("");
        // Its place goes to one of the two that wait: whichever it is, the other waits on.
        drop(first);
        let [_, last] = wide;
        drop(last);
        assert_eq!(second.answer().status(), "200", "{runtime}");
        assert_eq!(third.answer().status(), "200", "{runtime}");
        program.signal(Signal::SIGTERM);
        assert!(program.ends().success());
    }
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let host = Host::start();
    let upstream = host.address.to_string();
    let arguments =
        ["run", "--runtime", "mio", "--listen", "127.0.0.1:0", "--upstream", &upstream, "--cookie", "sid"];
    let mut program = Program::spawn(&arguments).unwrap();
    program.signal(Signal::SIGHUP);
    assert!(program.wait_for("reload.unchanged").contains("came from options"));
    assert_eq!(program.client("listener-1").get("").status(), "200");
    program.signal(Signal::SIGTERM);
    assert!(program.ends().success());
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let hosts = [Host::start(), Host::start()];
    let [one, two] = [0, 1].map(|nth| hosts[nth].address.to_string());
    let file = File::new("unread");
    file.write(&format!("runtime: mio\nreload: {{ watch: 0s }}\n{}", configuration(&[&one])));
    let mut program = Program::start(&file).unwrap();
    // The reader leaves at the next line, and takes the pipe with it.
    drop(std::mem::replace(&mut program.lines, channel().1));
    for host in [&two, &one, &two] {
        file.write(&format!("runtime: mio\nreload: {{ watch: 0s }}\n{}", configuration(&[host])));
        program.signal(Signal::SIGHUP);
        program.client_until("web", "", |answer| answer.field("x-be") == Some(host));
    }
    program.signal(Signal::SIGTERM);
    assert!(program.child.wait().unwrap().success());
}

/// Soft sessions in a cookie, and strict ones in a header, before the same hosts.
fn configuration(hosts: &[&str]) -> String {
    let quoted =
        hosts.iter().map(|host| if host.starts_with('{') { (*host).into() } else { format!("{host:?}") });
    format!(
        "listeners:\n\
         - name: web\n  address: 127.0.0.1:0\n  statefulSession: {{ cookieBased: {{ cookie: {{ name: sid, path: / }} }} }}\n\
         - name: firm\n  address: 127.0.0.1:0\n  statefulSession:\n    headerBased: {{ headerName: x-session }}\n    strict: true\n    statusOnStrictDestinationNotFound: 410\n\
         routes: [{{ forward: {{ cluster: app }} }}]\n\
         clusters: [{{ name: app, hosts: [{}] }}]\n",
        quoted.collect::<Vec<String>>().join(", ")
    )
}

/// The file of one test, replaced as a whole.
struct File {
    path: PathBuf,
}

impl File {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reload").join(name);
        fs::create_dir_all(&folder).unwrap();
        Self { path: folder.join("homing.yaml") }
    }

    fn write(&self, text: &str) {
        let new = self.path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.path).unwrap();
    }
}

/// The program under test. It is killed if the test fails.
struct Program {
    child: Child,
    lines: Receiver<String>,
    ready: String,
}

impl Program {
    /// `None`: this machine has no io_uring.
    fn start(file: &File) -> Option<Self> {
        Self::spawn(&["run", file.path.to_str().unwrap()])
    }

    fn spawn(arguments: &[&str]) -> Option<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_homing"));
        command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (said, lines) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).all(|line| said.send(line).is_ok()));
        let mut program = Self { child, lines, ready: String::new() };
        let line = program.wait_for_any(&["homing is ready", "runtime monoio cannot be used"]);
        if line.contains("cannot be used") {
            println!("skipped: {line}");
            return None;
        }
        program.ready = line;
        Some(program)
    }

    /// The next line of the log with this text.
    fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_any(&[text])
    }

    fn wait_for_any(&mut self, texts: &[&str]) -> String {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if texts.iter().any(|text| line.contains(text)) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with {texts:?} in\n{}", seen.join("\n"));
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn client(&self, listener: &str) -> Client {
        let (_, rest) = self.ready.split_once(&format!("{listener} on 127.0.0.1:")).unwrap();
        let port: u16 = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap();
        Client::connect(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Asks on new connections until the answer is as wanted: each worker takes a new configuration up on its next tick.
    fn client_until(&self, listener: &str, fields: &str, wanted: impl Fn(&Answer) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !wanted(&self.client(listener).get(fields)) {
            assert!(Instant::now() < end, "the answer does not come");
        }
    }

    fn ends(mut self) -> ExitStatus {
        // The log ends with the program.
        while self.lines.recv_timeout(PATIENCE).is_ok() {}
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(BufReader<TcpStream>);

#[derive(Debug)]
struct Answer(String);

impl Answer {
    fn status(&self) -> &str {
        self.0.get(9..12).unwrap()
    }

    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.0.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, fields: &str) {
        let request = format!("GET / HTTP/1.1\r\nhost: test\r\n{fields}\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    fn answer(&mut self) -> Answer {
        let head = read_head(&mut self.0).expect("an answer, not the end");
        let answer = Answer(head);
        let length: usize = answer.field("content-length").map_or(0, |length| length.parse().unwrap());
        self.0.read_exact(&mut vec![0; length]).unwrap();
        answer
    }

    fn get(&mut self, fields: &str) -> Answer {
        self.ask(fields);
        self.answer()
    }

    /// Asks on this connection until the answer is as wanted.
    fn until(&mut self, fields: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(fields);
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < end, "the answer does not come");
        }
    }

    /// The header of a session that was placed there.
    fn placed_at(&mut self, host: &str) -> String {
        let answer = self.until("", |answer| answer.field("x-be") == Some(host));
        format!("x-session: {}\r\n", answer.field("x-session").unwrap())
    }

    fn upgrade(&mut self, fields: &str) -> Answer {
        let answer = self.get(&format!("{fields}connection: upgrade\r\nupgrade: echo\r\n"));
        assert_eq!(answer.status(), "101");
        answer
    }

    fn echo(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        let mut heard = vec![0; text.len()];
        self.0.read_exact(&mut heard).unwrap();
        assert_eq!(heard, text.as_bytes());
    }

    /// Whether no byte has come so far.
    fn has_nothing(&mut self) -> bool {
        let stream = self.0.get_mut();
        stream.set_nonblocking(true).unwrap();
        let nothing = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        stream.set_nonblocking(false).unwrap();
        nothing
    }
}

/// An upstream host: says who it is and which of its connections it answers on, echoes after an upgrade, and tells when a
/// connection ends. Its threads end with the process.
struct Host {
    address: SocketAddr,
    news: Receiver<String>,
}

impl Host {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, news) = channel();
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (stream, tell) = (BufReader::new(stream.unwrap()), tell.clone());
                thread::spawn(move || serve(stream, number, address, &tell));
            }
        });
        Self { address, news }
    }

    fn wait_for(&self, text: &str) {
        while self.news.recv_timeout(PATIENCE).expect("news from the host") != text {}
    }
}

fn serve(mut stream: BufReader<TcpStream>, number: usize, address: SocketAddr, tell: &Sender<String>) {
    while let Some(head) = read_head(&mut stream) {
        let upgrade = head.contains("\r\nupgrade: echo\r\n");
        let first = if upgrade {
            "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo"
        } else {
            "200 OK\r\ncontent-length: 2"
        };
        let body = if upgrade { "" } else { "ok" };
        let answer = format!("HTTP/1.1 {first}\r\nx-be: {address}\r\nx-link: {number}\r\n\r\n{body}");
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            break;
        }
        let mut bytes = [0; 1024];
        while upgrade && let Ok(count @ 1..) = stream.read(&mut bytes) {
            let _ = stream.get_mut().write_all(&bytes[..count]);
        }
    }
    let _ = tell.send(format!("end of {number}"));
}

/// A head in lower case but for its values; `None`: the connection ended.
fn read_head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}
