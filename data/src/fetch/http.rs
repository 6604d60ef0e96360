//! A download that goes on where it broke.

use std::io::{self, Read};
use std::time::Duration;

use ureq::{Agent, AgentBuilder, ErrorKind, Response};

use super::Fetch;

/// Bytes that a try must bring for the tries to be counted anew.
const PROGRESS: u64 = 1 << 20;

/// The longest that is waited before a try.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The bytes of an address. What breaks is asked for again from the byte where it broke, after a pause; if the server cannot do
/// that, from the beginning, and what was read already is passed over.
pub(super) struct Download {
    agent: Agent,
    url: String,
    fetch: Fetch,
    body: Option<Box<dyn Read + Send + Sync>>,
    /// Bytes that were handed out.
    got: u64,
    /// Bytes that come once more before new ones.
    again: u64,
    /// Bytes of the whole, if the server says so.
    total: Option<u64>,
    /// By which the server tells whether it is still the same.
    tag: Option<String>,
    /// Tries in a row without much progress.
    tries: u32,
    /// `got` when they were last counted anew.
    since: u64,
}

/// Why there is no answer.
enum Refused {
    /// It may come later, perhaps after a time that the server names.
    ForNow(String, Option<Duration>),
    /// It will not.
    ForGood(String),
}

impl Download {
    pub fn new(url: &str, fetch: &Fetch) -> Self {
        let patience = Duration::from_secs(fetch.timeout_s.max(1));
        // A connection for each request: after one that broke, who knows what is still under way on it.
        let agent = AgentBuilder::new()
            .timeout_connect(patience)
            .timeout_read(patience)
            .timeout_write(patience)
            .max_idle_connections(0)
            .tls_config(super::tls::client())
            .user_agent(concat!("clip-burn/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent,
            url: url.into(),
            fetch: fetch.clone(),
            body: None,
            got: 0,
            again: 0,
            total: None,
            tag: None,
            tries: 0,
            since: 0,
        }
    }

    /// Asks for what is missing.
    fn ask(&mut self) -> Result<Box<dyn Read + Send + Sync>, Refused> {
        let mut request = self.agent.get(&self.url).set("Accept-Encoding", "identity");
        if self.got > 0 {
            request = request.set("Range", &format!("bytes={}-", self.got));
            if let Some(tag) = &self.tag {
                request = request.set("If-Range", tag);
            }
        }
        let response = request.call().map_err(|error| refused(&error))?;
        match response.status() {
            200 => self.begins(&response)?,
            206 if self.got > 0 => self.goes_on(&response)?,
            status => {
                let what = format!("the server answers {status}, which was not asked for");
                return Err(Refused::ForGood(what));
            }
        }
        Ok(Box::new(response.into_reader()))
    }

    /// The whole comes, for the first time or once more.
    fn begins(&mut self, response: &Response) -> Result<(), Refused> {
        let total = response
            .header("Content-Length")
            .and_then(|length| length.trim().parse().ok());
        let tag = tag(response);
        if self.got == 0 {
            (self.total, self.tag) = (total, tag);
        } else if tag != self.tag || total != self.total {
            return Err(self.changed());
        }
        self.again = self.got;
        self.check_size()
    }

    /// The rest comes.
    fn goes_on(&mut self, response: &Response) -> Result<(), Refused> {
        let range = response.header("Content-Range").unwrap_or_default();
        let Some((start, total)) = parse_range(range) else {
            let what = format!("the server answers 206 with the Content-Range `{range}`");
            return Err(Refused::ForGood(what));
        };
        let other_tag = tag(response).is_some_and(|tag| self.tag.as_ref() != Some(&tag));
        let other_total = total.is_some() && self.total.is_some() && total != self.total;
        if start != self.got || other_tag || other_total {
            return Err(self.changed());
        }
        self.total = self.total.or(total);
        self.again = 0;
        self.check_size()
    }

    fn changed(&self) -> Refused {
        Refused::ForGood(format!(
            "it changed on the server while it was being fetched, at byte {}; start again",
            self.got
        ))
    }

    fn check_size(&self) -> Result<(), Refused> {
        match self.total.filter(|total| total >> 20 > self.fetch.max_mb) {
            None => Ok(()),
            Some(total) => Err(Refused::ForGood(format!(
                "has {total} bytes, more than {} megabytes; if that is right, raise `max_mb` of `fetch`",
                self.fetch.max_mb
            ))),
        }
    }

    /// Waits before the next try, if there is one.
    fn broke(&mut self, why: String, wait: Option<Duration>) -> io::Result<()> {
        self.body = None;
        if self.got - self.since >= PROGRESS {
            (self.tries, self.since) = (0, self.got);
        }
        self.tries += 1;
        if self.tries >= self.fetch.attempts {
            return Err(io::Error::other(format!(
                "{why}; given up after {} tries in a row. Go on later by the same command: what is whole is kept",
                self.tries
            )));
        }
        let doubled = 1u64 << (self.tries - 1).min(20);
        let pause = Duration::from_millis(self.fetch.pause_ms.saturating_mul(doubled));
        std::thread::sleep(wait.unwrap_or(pause).min(LONGEST_PAUSE));
        Ok(())
    }

    /// Reads on, or passes over what comes once more.
    fn read_on(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(body) = &mut self.body else {
            return Ok(0);
        };
        while self.again > 0 {
            let most = bytes
                .len()
                .min(usize::try_from(self.again).unwrap_or(usize::MAX));
            match body.read(&mut bytes[..most])? {
                0 => return Ok(0),
                count => self.again -= count as u64,
            }
        }
        body.read(bytes)
    }
}

impl Read for Download {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        loop {
            if self.body.is_none() {
                if self.got > 0 && self.total == Some(self.got) {
                    return Ok(0);
                }
                match self.ask() {
                    Ok(body) => self.body = Some(body),
                    Err(Refused::ForGood(why)) => return Err(io::Error::other(why)),
                    Err(Refused::ForNow(why, wait)) => {
                        self.broke(why, wait)?;
                        continue;
                    }
                }
            }
            match self.read_on(bytes) {
                Ok(0) if self.again > 0 || self.total.is_some_and(|total| self.got < total) => {
                    let total = self.total.map_or("more".into(), |total| total.to_string());
                    let why = format!("the server hung up after {} of {total} bytes", self.got);
                    self.broke(why, None)?;
                }
                Ok(count) => {
                    self.got += count as u64;
                    return match self.total.filter(|total| self.got > *total) {
                        None => Ok(count),
                        Some(total) => Err(io::Error::other(format!(
                            "the server sends more than the {total} bytes that it promised"
                        ))),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let why = format!("the connection broke after {} bytes: {error}", self.got);
                    self.broke(why, None)?;
                }
            }
        }
    }
}

fn refused(error: &ureq::Error) -> Refused {
    match error {
        ureq::Error::Status(status, response) => {
            let why = format!("the server answers {status} {}", response.status_text());
            let wait = response.header("Retry-After");
            let wait = wait.and_then(|seconds| seconds.trim().parse().ok());
            match status {
                408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                    Refused::ForNow(why, wait.map(Duration::from_secs))
                }
                _ => Refused::ForGood(format!("{why}; is the address right, and may you read it?")),
            }
        }
        ureq::Error::Transport(transport) => match transport.kind() {
            ErrorKind::InvalidUrl
            | ErrorKind::UnknownScheme
            | ErrorKind::TooManyRedirects
            | ErrorKind::BadHeader => Refused::ForGood(transport.to_string()),
            _ if transport.to_string().contains("invalid peer certificate") => {
                Refused::ForGood(format!(
                    "{transport}. Of an authority that only this machine knows: name its file in SSL_CERT_FILE"
                ))
            }
            _ => Refused::ForNow(transport.to_string(), None),
        },
    }
}

/// What tells one content from another: the ETag, if it is a strong one, or the time of the last change.
fn tag(response: &Response) -> Option<String> {
    let strong = response.header("ETag").filter(|tag| !tag.starts_with("W/"));
    strong
        .or_else(|| response.header("Last-Modified"))
        .map(str::to_owned)
}

/// `bytes 100-199/200` → 100 and 200.
fn parse_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((start.trim().parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::thread::JoinHandle;

    /// Answers one connection after another from a list, and keeps what was asked for.
    struct Server {
        url: String,
        asked: Arc<Mutex<Vec<String>>>,
        thread: Option<JoinHandle<()>>,
    }

    type Answer = Box<dyn FnOnce(&mut TcpStream) + Send>;

    impl Server {
        fn new(answers: Vec<Answer>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/00000.tar", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let (keep, mut answers) = (asked.clone(), VecDeque::from(answers));
            let thread = std::thread::spawn(move || {
                while let Some(answer) = answers.pop_front() {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut request = Vec::new();
                    let mut byte = [0];
                    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                        request.push(byte[0]);
                    }
                    keep.lock()
                        .unwrap()
                        .push(String::from_utf8(request).unwrap());
                    answer(&mut stream);
                }
            });
            Self {
                url,
                asked,
                thread: Some(thread),
            }
        }

        /// The download, and what it was asked for.
        fn fetch(mut self, fetch: &Fetch) -> (io::Result<Vec<u8>>, Vec<String>) {
            let mut bytes = Vec::new();
            let read = Download::new(&self.url, fetch).read_to_end(&mut bytes);
            self.thread.take().unwrap().join().unwrap();
            let asked = self.asked.lock().unwrap().clone();
            (read.map(|_| bytes), asked)
        }
    }

    /// A head, then a body.
    fn send(head: String, body: Vec<u8>) -> Answer {
        Box::new(move |stream| {
            let head = head.replace('\n', "\r\n") + "\r\n\r\n";
            // Who has heard enough hangs up.
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        })
    }

    fn status(line: &str) -> Answer {
        send(format!("HTTP/1.1 {line}\nContent-Length: 0"), Vec::new())
    }

    fn content() -> Vec<u8> {
        (0..10_000u32).map(|i| (i * i) as u8).collect()
    }

    /// The whole, of which only some bytes come.
    fn whole(sent: usize) -> Answer {
        let head = "HTTP/1.1 200 OK\nContent-Length: 10000\nETag: \"a\"";
        send(head.into(), content()[..sent].to_vec())
    }

    /// The rest from a byte on, of which only some come.
    fn rest(start: usize, end: usize) -> Answer {
        let length = 10_000 - start;
        let head = format!(
            "HTTP/1.1 206 Partial Content\nContent-Length: {length}\nContent-Range: bytes {start}-9999/10000\nETag: \"a\""
        );
        send(head, content()[start..end].to_vec())
    }

    fn quick() -> Fetch {
        Fetch {
            pause_ms: 1,
            timeout_s: 5,
            ..Fetch::default()
        }
    }

    #[track_caller]
    fn fails(answers: Vec<Answer>, words: &[&str]) {
        let (read, _) = Server::new(answers).fetch(&quick());
        let said = read.unwrap_err().to_string();
        for word in words {
            assert!(said.contains(word), "no `{word}` in: {said}");
        }
    }

    #[test]
    fn a_download_that_breaks_goes_on_at_its_byte() {
        let server = Server::new(vec![
            whole(4000),
            rest(4000, 4000),
            rest(4000, 9000),
            rest(9000, 10_000),
        ]);
        let (read, asked) = server.fetch(&quick());
        assert_eq!(read.unwrap(), content());
        assert!(!asked[0].to_lowercase().contains("range"));
        for (asked, start) in asked[1..].iter().zip([4000, 4000, 9000]) {
            let said = asked.to_lowercase();
            assert!(
                said.contains(&format!("range: bytes={start}-\r\n")),
                "{asked}"
            );
            assert!(said.contains("if-range: \"a\"\r\n"), "{asked}");
        }
    }

    #[test]
    fn a_server_without_ranges_is_read_again_from_the_beginning() {
        let server = Server::new(vec![whole(4000), whole(3000), whole(7000), whole(10_000)]);
        let (read, asked) = server.fetch(&quick());
        assert_eq!(read.unwrap(), content());
        assert_eq!(asked.len(), 4);
    }

    #[test]
    fn a_body_without_a_length_is_read_to_its_end() {
        let server = Server::new(vec![send("HTTP/1.1 200 OK".into(), content())]);
        assert_eq!(server.fetch(&quick()).0.unwrap(), content());
        let mut chunks = Vec::new();
        for chunk in content().chunks(999) {
            chunks.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            chunks.extend(chunk);
            chunks.extend(b"\r\n");
        }
        let head = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked";
        // The mark of the end is missing: the rest, of which there is none, is asked for.
        let cut = send(head.into(), chunks.clone());
        chunks.extend(b"0\r\n\r\n");
        let server = Server::new(vec![send(head.into(), chunks)]);
        assert_eq!(server.fetch(&quick()).0.unwrap(), content());
        fails(vec![cut, status("416 Range Not Satisfiable")], &["416"]);
    }

    #[test]
    fn a_busy_server_is_asked_again_and_one_that_refuses_is_not() {
        let server = Server::new(vec![
            status("503 Service Unavailable"),
            send(
                "HTTP/1.1 429 Too Many Requests\nRetry-After: 0\nContent-Length: 0".into(),
                vec![],
            ),
            whole(10_000),
        ]);
        assert_eq!(server.fetch(&quick()).0.unwrap(), content());
        fails(vec![status("404 Not Found")], &["404 Not Found", "address"]);
        fails(vec![status("403 Forbidden")], &["403"]);
    }

    #[test]
    fn tries_without_progress_end() {
        let busy = || status("500 Internal Server Error");
        let answers = (0..6).map(|_| busy()).collect();
        fails(answers, &["500", "6 tries", "same command"]);
        let answers = (0..6).map(|_| whole(4000)).collect();
        fails(answers, &["6 tries"]);
        // Nobody listens.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let fetch = Fetch {
            attempts: 2,
            ..quick()
        };
        let read = Download::new(&url, &fetch).read(&mut [0]);
        assert!(read.unwrap_err().to_string().contains("2 tries"));
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let silent: Answer = Box::new(|_| std::thread::sleep(Duration::from_millis(1500)));
        let fetch = Fetch {
            attempts: 1,
            timeout_s: 1,
            ..quick()
        };
        let (read, _) = Server::new(vec![silent]).fetch(&fetch);
        assert!(read.is_err());
    }

    #[test]
    fn what_changes_on_the_server_is_not_put_together() {
        let other = |head: &str| send(head.into(), vec![0; 10_000]);
        let tagged = "HTTP/1.1 200 OK\nContent-Length: 10000\nETag: \"b\"";
        fails(vec![whole(4000), other(tagged)], &["changed", "byte 4000"]);
        let longer = "HTTP/1.1 200 OK\nContent-Length: 10001\nETag: \"a\"";
        fails(vec![whole(4000), other(longer)], &["changed"]);
        let range = "HTTP/1.1 206 Partial Content\nContent-Range: bytes 3999-9999/10000";
        fails(vec![whole(4000), other(range)], &["changed"]);
        let none = "HTTP/1.1 206 Partial Content\nContent-Length: 6000";
        fails(vec![whole(4000), other(none)], &["Content-Range"]);
    }

    #[test]
    fn more_than_was_promised_or_allowed_is_refused() {
        let head = "HTTP/1.1 206 Partial Content\nContent-Length: 7000\nContent-Range: bytes 4000-9999/10000\nETag: \"a\"";
        let more = send(head.into(), [&content()[4000..], &[0; 1000]].concat());
        fails(vec![whole(4000), more], &["more than the 10000 bytes"]);
        // Beyond the length that it names nothing is read.
        let head = "HTTP/1.1 200 OK\nContent-Length: 10000";
        let more = send(head.into(), [content(), vec![0; 1000]].concat());
        let server = Server::new(vec![more]);
        assert_eq!(server.fetch(&quick()).0.unwrap(), content());
        let fetch = Fetch {
            max_mb: 3,
            ..quick()
        };
        let large = send("HTTP/1.1 200 OK\nContent-Length: 9999999".into(), vec![]);
        let (read, _) = Server::new(vec![large]).fetch(&fetch);
        let said = read.unwrap_err().to_string();
        assert!(
            said.contains("9999999") && said.contains("max_mb"),
            "{said}"
        );
    }
}
