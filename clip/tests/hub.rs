//! `hf-hub:ORG/NAME` against a small server on this machine.
//!
//! The environment says where the hub and the cache are, and belongs to the whole process; so each load happens in
//! a child process, which is this program again with `child` as its only test.
#![cfg(feature = "hub")]

use burn::backend::Flex;
use clip::checkpoint::collect;
use clip::{LoadOptions, ModelConfig, Pretrained};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "open_clip_model.safetensors";

/// Loads `TEST_MODEL` and compares it with the model directory `TEST_DIRECT`.
#[test]
#[ignore = "runs as the child of the other tests"]
fn child() {
    let load = |name: &str| {
        let model = std::env::var(name).expect("set by the parent");
        Pretrained::<Flex>::load(&model, &LoadOptions::default(), &Default::default())
    };
    let said = match load("TEST_MODEL") {
        Ok(hub) => compare(&hub, &load("TEST_DIRECT").expect("the parent wrote it")).to_string(),
        Err(error) => error.to_string(),
    };
    fs::write(
        std::env::var("TEST_REPORT").expect("set by the parent"),
        said,
    )
    .unwrap();
}

fn compare(hub: &Pretrained<Flex>, direct: &Pretrained<Flex>) -> &'static str {
    let values = |model: &Pretrained<Flex>| -> BTreeMap<String, Vec<f32>> {
        let dict = collect(&model.model);
        dict.iter()
            .map(|(name, tensor)| (name.to_string(), tensor.values()))
            .collect()
    };
    let same = values(hub) == values(direct)
        && hub.config == direct.config
        && hub.preprocess.config() == direct.preprocess.config();
    if same { "SAME" } else { "DIFFERENT" }
}

/// What the server does to a request for a whole file.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Nothing.
    None,
    /// Half of the weights, though the header promises all.
    Cut,
    /// Half of the weights, with no length in the header.
    CutWithoutLength,
}

/// A hub with the one model `test/tiny`, and an empty cache.
struct Hub {
    folder: tempfile::TempDir,
    endpoint: String,
    fault: Arc<Mutex<Fault>>,
    /// Request lines and the `Authorization` that came with them.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = ModelConfig::preset("tiny").unwrap();
        let model =
            Pretrained::<Flex>::random(config, &LoadOptions::default(), &Default::default());
        model.unwrap().save(&folder.path().join("model")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (fault, seen) = (
            Arc::new(Mutex::new(Fault::None)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (files, fault_, seen_) = (folder.path().join("model"), fault.clone(), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up early is part of the tests.
                let _ = answer(stream, &files, *fault_.lock().unwrap(), &seen_);
            }
        });
        Self {
            folder,
            endpoint,
            fault,
            seen,
        }
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("home/hub/models--test--tiny")
    }

    /// What the child reports of a load.
    fn load(&self, model: &str, environment: &[(&str, &str)]) -> String {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "child",
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ]);
        for name in [
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "HF_TOKEN",
            "ALL_PROXY",
            "HTTP_PROXY",
            "all_proxy",
            "http_proxy",
        ] {
            command.env_remove(name);
        }
        command
            .env("HF_HOME", self.folder.path().join("home"))
            .env("HF_ENDPOINT", &self.endpoint);
        command
            .env("TEST_MODEL", model)
            .env("TEST_DIRECT", self.model());
        command.env("TEST_REPORT", self.report());
        let _ = fs::remove_file(self.report());
        let output = command.envs(environment.iter().copied()).output().unwrap();
        let said = fs::read_to_string(self.report());
        said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn report(&self) -> PathBuf {
        self.folder.path().join("report.txt")
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Answers one request as the hub does.
fn answer(
    mut stream: TcpStream,
    files: &Path,
    fault: Fault,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut range, mut authorization) = (None, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = value.strip_prefix("bytes=").map(str::to_string),
            "authorization" => authorization = value.to_string(),
            _ => {}
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_string();
    seen.lock()
        .unwrap()
        .push(format!("{path} {authorization}").trim_end().to_string());

    if path.starts_with("/api/models/test/broken/") {
        return write!(
            stream,
            "HTTP/1.1 503 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    if path.starts_with("/api/models/test/tiny/revision/main")
        || path.starts_with(&format!("/api/models/test/tiny/revision/{COMMIT}"))
    {
        let entries = fs::read_dir(files)?.flatten().map(|entry| {
            let (name, size) = (entry.file_name(), entry.metadata().unwrap().len());
            format!(r#"{{"rfilename": {name:?}, "size": {size}}}"#)
        });
        let siblings = entries.collect::<Vec<_>>().join(", ");
        let body = format!(r#"{{"id": "test/tiny", "sha": "{COMMIT}", "siblings": [{siblings}]}}"#);
        let length = body.len();
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }
    let file = path
        .strip_prefix(&format!("/test/tiny/resolve/{COMMIT}/"))
        .and_then(|name| Some((name, fs::read(files.join(name)).ok()?)));
    let Some((name, content)) = file else {
        let reason = match path.contains("/test/tiny/") {
            true => "RevisionNotFound",
            false => "RepoNotFound",
        };
        return write!(
            stream,
            "HTTP/1.1 404 x\r\nX-Error-Code: {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let range = range.unwrap_or("0-".to_string());
    let (start, end) = range.split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let fault = if name == WEIGHTS && end.is_empty() {
        fault
    } else {
        Fault::None
    };
    let end = end.parse().unwrap_or(content.len() - 1);
    let total = content.len();
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nX-Repo-Commit: {COMMIT}\r\nETag: \"{name}-etag\"\r\n\
         Content-Range: bytes {start}-{end}/{total}\r\n"
    )?;
    if fault != Fault::CutWithoutLength {
        write!(stream, "Content-Length: {}\r\n", end + 1 - start)?;
    }
    let end = if fault == Fault::None { end } else { total / 2 };
    stream.write_all(b"\r\n")?;
    stream.write_all(&content[start..=end])
}

const OFFLINE: (&str, &str) = ("HF_HUB_OFFLINE", "1");
/// Nothing listens there.
const NO_HUB: (&str, &str) = ("HF_ENDPOINT", "http://127.0.0.1:9");

#[test]
fn a_model_of_the_hub_is_downloaded_once_and_then_needs_no_hub() {
    let hub = Hub::start();
    assert_eq!(
        hub.load("hf-hub:test/tiny", &[("HF_TOKEN", "secret")]),
        "SAME"
    );
    let requests = hub.requests();
    assert_eq!(
        requests[0],
        "/api/models/test/tiny/revision/main?blobs=true Bearer secret"
    );
    let weights = format!("/test/tiny/resolve/{COMMIT}/{WEIGHTS} Bearer secret");
    assert!(requests.contains(&weights), "{requests:?}");
    assert!(
        !requests
            .iter()
            .any(|request| request.contains("merges.txt")),
        "loading does not read it"
    );

    assert_eq!(hub.load("hf-hub:test/tiny", &[]), "SAME");
    assert_eq!(hub.requests().len(), 1, "the commit is asked for, no file");
    let commit = format!("hf-hub:test/tiny@{COMMIT}");
    for model in ["hf-hub:test/tiny", &commit] {
        assert_eq!(hub.load(model, &[OFFLINE]), "SAME");
        assert_eq!(hub.load(model, &[NO_HUB]), "SAME");
    }
    assert_eq!(hub.load(&commit, &[]), "SAME");
    assert_eq!(hub.requests(), [""; 0], "a cached commit asks nothing");

    let snapshot = hub.cache().join("snapshots").join(COMMIT);
    fs::remove_file(snapshot.join(WEIGHTS)).unwrap();
    let said = hub.load("hf-hub:test/tiny", &[OFFLINE]);
    assert!(
        said.contains("no weights") && said.contains(WEIGHTS),
        "{said}"
    );
    assert!(said.contains("unset HF_HUB_OFFLINE"), "{said}");
    assert_eq!(
        hub.load("hf-hub:test/tiny", &[]),
        "SAME",
        "what is missing is downloaded again"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let hub = Hub::start();
    let offline = hub.load("hf-hub:test/tiny", &[OFFLINE]);
    assert!(
        offline.contains("hf-hub:test/tiny: revision `main` is not in the cache"),
        "{offline}"
    );
    assert!(offline.contains("unset HF_HUB_OFFLINE"), "{offline}");
    assert_eq!(hub.requests(), [""; 0]);

    let missing = hub.load("hf-hub:test/nothing", &[]);
    assert!(
        missing.contains("of test/nothing at `main`") && missing.contains("HF_TOKEN"),
        "{missing}"
    );
    let revision = hub.load("hf-hub:test/tiny@v9", &[]);
    assert!(
        revision.contains("/test/tiny has no revision `v9`"),
        "{revision}"
    );
    let broken = hub.load("hf-hub:test/broken", &[]);
    assert!(
        broken.contains("503") && broken.contains("not in the cache"),
        "{broken}"
    );
    let unreachable = hub.load("hf-hub:test/tiny", &[NO_HUB]);
    assert!(
        unreachable.contains("cannot reach http://127.0.0.1:9"),
        "{unreachable}"
    );
    let name = hub.load("hf-hub:../tiny", &[]);
    assert!(name.contains("write hf-hub:ORG/NAME"), "{name}");

    fs::remove_file(hub.model().join("open_clip_config.json")).unwrap();
    let config = hub.load("hf-hub:test/tiny", &[]);
    assert!(
        config.contains("neither open_clip_config.json nor config.json"),
        "{config}"
    );
}

#[test]
fn half_a_file_is_never_used() {
    for fault in [Fault::Cut, Fault::CutWithoutLength] {
        let hub = Hub::start();
        hub.set(fault);
        let said = hub.load("hf-hub:test/tiny", &[]);
        assert!(said.contains(WEIGHTS), "{said}");
        assert!(said.contains("load the model again"), "{said}");
        let snapshot = hub.cache().join("snapshots").join(COMMIT);
        assert!(snapshot.join("tokenizer.json").is_file());
        assert!(fs::symlink_metadata(snapshot.join(WEIGHTS)).is_err());
        let blob = hub.cache().join("blobs").join(format!("{WEIGHTS}-etag"));
        assert!(!blob.exists());
        assert!(
            hub.load("hf-hub:test/tiny", &[OFFLINE])
                .contains("not in the cache")
        );

        hub.set(Fault::None);
        assert_eq!(
            hub.load("hf-hub:test/tiny", &[]),
            "SAME",
            "the rest follows"
        );
        assert_eq!(hub.load("hf-hub:test/tiny", &[OFFLINE]), "SAME");
    }
}

#[test]
fn a_damaged_file_of_the_cache_is_replaced() {
    let hub = Hub::start();
    assert_eq!(hub.load("hf-hub:test/tiny", &[]), "SAME");
    let weights = hub.cache().join("snapshots").join(COMMIT).join(WEIGHTS);
    fs::write(&weights, "half").unwrap();
    assert_eq!(hub.load("hf-hub:test/tiny", &[]), "SAME");
}
