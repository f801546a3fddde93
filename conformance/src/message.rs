//! Reads HTTP/1.1 messages off a byte stream, whole and strictly. Written for the tests alone: it shares no line with
//! the core's parser, so that both would have to be wrong in the same way for an error to pass.

/// A request as a host received it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// `HTTP/1.1`, say.
    pub version: String,
    /// The field lines in order, names as sent.
    pub fields: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer lines of a chunked body.
    pub trailers: Vec<(String, String)>,
}

/// A response as a client received it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    /// The version of the status line.
    pub version: String,
    /// The status.
    pub status: u16,
    /// The field lines in order, names as sent.
    pub fields: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer lines of a chunked body.
    pub trailers: Vec<(String, String)>,
}

/// How far a message has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress<M> {
    /// Its head is not complete.
    Partial,
    /// Its head is complete, its body is not. Holds what there is.
    Head(M),
    /// It is complete, and took so many bytes.
    Done(M, usize),
}

/// What is wrong with a stream.
pub type Broken = String;

impl Request {
    /// The value of the first line called `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        first(&self.fields, name)
    }

    /// The values of all lines called `name`.
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }
}

impl Response {
    /// The value of the first line called `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        first(&self.fields, name)
    }

    /// The values of all lines called `name`.
    pub fn all(&self, name: &str) -> Vec<&str> {
        all(&self.fields, name)
    }

    /// The body as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// 1xx other than 101.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100..=199) && self.status != 101
    }
}

fn first<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn all<'f>(fields: &'f [(String, String)], name: &str) -> Vec<&'f str> {
    fields
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

/// Reads one request off the front of `bytes`.
pub fn read_request(bytes: &[u8]) -> Result<Progress<Request>, Broken> {
    let Some((first_line, fields, at)) = read_head(bytes)? else { return Ok(Progress::Partial) };
    let words: Vec<&str> = first_line.split(' ').collect();
    let &[method, target, version] = words.as_slice() else {
        return Err(format!("request line {first_line:?}"));
    };
    if version != "HTTP/1.1" {
        return Err(format!("a proxy speaks HTTP/1.1 to its hosts, not {version:?}"));
    }
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        version: version.to_owned(),
        fields,
        ..Request::default()
    };
    if request.all("host").len() != 1 {
        return Err(format!("{} host lines", request.all("host").len()));
    }
    let framing = framing(&request.fields)?;
    let rest = bytes.get(at..).unwrap_or_default();
    let body = match framing {
        Framing::None => Some(Body::default()),
        Framing::Length(length) => fixed(rest, length),
        Framing::Chunked => chunked(rest)?,
    };
    match body {
        Some(body) => {
            let used = at + body.used;
            (request.body, request.trailers) = (body.data, body.trailers);
            Ok(Progress::Done(request, used))
        }
        None => Ok(Progress::Head(request)),
    }
}

/// Reads one response off the front of `bytes`. `to_head`: it answers a HEAD. `ended`: nothing will follow.
pub fn read_response(bytes: &[u8], to_head: bool, ended: bool) -> Result<Progress<Response>, Broken> {
    let Some((first_line, fields, at)) = read_head(bytes)? else { return Ok(Progress::Partial) };
    let (version, rest) = first_line.split_once(' ').ok_or_else(|| format!("status line {first_line:?}"))?;
    let code = rest.split(' ').next().unwrap_or_default();
    let status: u16 = code.parse().map_err(|_| format!("status {code:?}"))?;
    if !version.starts_with("HTTP/1.") || code.len() != 3 {
        return Err(format!("status line {first_line:?}"));
    }
    let mut response = Response { version: version.to_owned(), status, fields, ..Response::default() };
    let rest = bytes.get(at..).unwrap_or_default();
    let framing = framing(&response.fields)?;
    let body = if to_head || matches!(status, 100..=199 | 204 | 304) {
        Some(Body::default())
    } else {
        match framing {
            Framing::None if ended => fixed(rest, rest.len()),
            Framing::None => None,
            Framing::Length(length) => fixed(rest, length),
            Framing::Chunked => chunked(rest)?,
        }
    };
    match body {
        Some(body) => {
            let used = at + body.used;
            (response.body, response.trailers) = (body.data, body.trailers);
            Ok(Progress::Done(response, used))
        }
        None => {
            response.body = rest.to_vec();
            Ok(Progress::Head(response))
        }
    }
}

/// All responses in `bytes`; `methods` are those of the requests they answer. Whatever is left over at the end
/// is an error, as is an unfinished response.
pub fn responses(bytes: &[u8], methods: &[&str], ended: bool) -> Result<Vec<Response>, Broken> {
    let (mut found, mut at, mut answered) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let method = methods.get(answered).copied().unwrap_or("GET");
        let rest = bytes.get(at..).unwrap_or_default();
        match read_response(rest, method == "HEAD", ended)? {
            Progress::Done(response, used) => {
                at += used;
                answered += usize::from(!response.is_interim());
                found.push(response);
            }
            Progress::Partial | Progress::Head(_) => {
                return Err(format!("unfinished response: {:?}", String::from_utf8_lossy(rest)));
            }
        }
    }
    Ok(found)
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

#[derive(Default)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<(String, String)>,
    used: usize,
}

type Lines = Vec<(String, String)>;

/// The first line, the field lines and the length of the head.
fn read_head(bytes: &[u8]) -> Result<Option<(String, Lines, usize)>, Broken> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = latin1(bytes.get(..end).unwrap_or_default());
    let mut lines = text.split("\r\n");
    let first_line = lines.next().unwrap_or_default().to_owned();
    Ok(Some((first_line, read_lines(lines)?, end + 4)))
}

fn read_lines<'l>(lines: impl Iterator<Item = &'l str>) -> Result<Lines, Broken> {
    lines
        .map(|line| {
            if line.contains(['\r', '\n', '\0']) {
                return Err(format!("control byte in line {line:?}"));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in line {line:?}"))?;
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(token) {
                return Err(format!("field name {name:?}"));
            }
            Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
        })
        .collect()
}

fn framing(fields: &[(String, String)]) -> Result<Framing, Broken> {
    match (all(fields, "content-length").as_slice(), all(fields, "transfer-encoding").as_slice()) {
        ([], []) => Ok(Framing::None),
        ([length], []) => {
            length.parse().map(Framing::Length).map_err(|_| format!("content-length {length:?}"))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (lengths, codings) => Err(format!("framing by {lengths:?} and {codings:?}")),
    }
}

fn fixed(rest: &[u8], length: usize) -> Option<Body> {
    let data = rest.get(..length)?.to_vec();
    Some(Body { data, trailers: Vec::new(), used: length })
}

fn chunked(bytes: &[u8]) -> Result<Option<Body>, Broken> {
    let mut body = Body::default();
    loop {
        let Some(line) = read_line(bytes, body.used) else { return Ok(None) };
        body.used += line.len() + 2;
        let digits = line.split(';').next().unwrap_or_default();
        let size =
            usize::from_str_radix(digits, 16).map_err(|_| format!("chunk size {line:?} at {}", body.used))?;
        if size == 0 {
            break;
        }
        let end = body.used.saturating_add(size).saturating_add(2);
        let Some(data) = bytes.get(body.used..end) else { return Ok(None) };
        let Some(data) = data.strip_suffix(b"\r\n") else { return Err("chunk without its end".to_owned()) };
        body.data.extend_from_slice(data);
        body.used = end;
    }
    let mut lines = Vec::new();
    loop {
        let Some(line) = read_line(bytes, body.used) else { return Ok(None) };
        body.used += line.len() + 2;
        if line.is_empty() {
            body.trailers = read_lines(lines.iter().map(String::as_str))?;
            return Ok(Some(body));
        }
        lines.push(line);
    }
}

fn read_line(bytes: &[u8], at: usize) -> Option<String> {
    let rest = bytes.get(at..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    Some(latin1(rest.get(..end)?))
}

/// One character for each byte: field values may hold any, and none is lost.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_where_its_framing_says() {
        let bytes = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
            3;e\r\nabc\r\n1\r\nd\r\n0\r\nsum: 4\r\n\r\nGET";
        let Ok(Progress::Done(request, used)) = read_request(bytes) else { panic!("not read") };
        assert_eq!(request.body, b"abcd");
        assert_eq!(request.trailers, [("sum".to_owned(), "4".to_owned())]);
        assert_eq!(used, bytes.len() - 3);
        assert!(matches!(read_request(&bytes[..used - 1]), Ok(Progress::Head(_))));
        assert_eq!(read_request(&bytes[..20]), Ok(Progress::Partial));
    }

    #[test]
    fn doubtful_framing_is_an_error() {
        for lines in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip\r\n",
            "Content-Length: x\r\n",
            "Host: y\r\n",
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
            assert!(read_request(text.as_bytes()).is_err(), "{lines:?}");
        }
    }

    #[test]
    fn responses_are_counted_off_one_by_one() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\
            HTTP/1.1 200 OK\r\n\r\nrest";
        let found = responses(bytes, &["HEAD", "GET"], true).unwrap();
        assert_eq!(found.iter().map(|r| r.status).collect::<Vec<_>>(), [100, 200, 200]);
        assert_eq!(found[2].body, b"rest");
        assert!(responses(bytes, &["HEAD", "GET"], false).is_err());
    }
}
