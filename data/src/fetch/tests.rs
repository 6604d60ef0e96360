use super::*;
use crate::source::Source;
use crate::webdataset::{ShardConfig, ShardSource};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use tempfile::TempDir;

/// Two shards of some samples, and an empty folder.
fn shards() -> (TempDir, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    for shard in 0..2 {
        let path = folder.path().join(format!("{shard}.tar"));
        let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
        for sample in 0..3 {
            for (end, data) in [("jpg", "image"), ("txt", "caption")] {
                let mut header = tar::Header::new_ustar();
                header.set_size(data.len() as u64);
                let name = format!("{shard}{sample}.{end}");
                tar.append_data(&mut header, name, data.as_bytes()).unwrap();
            }
        }
        tar.into_inner().unwrap();
    }
    (folder, tempfile::tempdir().unwrap())
}

fn open(pattern: &str, root: &TempDir, cache: &TempDir) -> Result<ShardSource, DataError> {
    ShardSource::open(ShardConfig {
        root: Some(root.path().into()),
        fetch: Fetch::into_directory(cache.path()),
        ..ShardConfig::new(pattern)
    })
}

fn keys(source: &ShardSource) -> Vec<String> {
    (0..source.len())
        .map(|i| source.get(i).unwrap().key)
        .collect()
}

/// Names in a folder, those of shards without their digest.
fn names(folder: &TempDir) -> Vec<String> {
    let entries = folder.path().read_dir().unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| match name.rsplit_once('-') {
            Some((stem, _)) => stem.to_owned(),
            None => name,
        })
        .collect();
    names.sort();
    names
}

fn gzip(from: &Path, to: &Path) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&std::fs::read(from).unwrap()).unwrap();
    let packed = packed.finish().unwrap();
    std::fs::write(to, &packed).unwrap();
    packed
}

#[track_caller]
fn said(result: Result<ShardSource, DataError>, words: &[&str]) {
    let said = result.err().unwrap().to_string();
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_and_compressed_shards_have_the_samples_of_the_files_in_their_order() {
    let (root, cache) = shards();
    let path = |name: &str| root.path().join(name);
    gzip(&path("1.tar"), &path("1.tar.gz"));
    let plain = open("{0..1}.tar", &root, &cache).unwrap();
    assert_eq!(names(&cache), [""; 0], "plain files stay where they are");
    let folder = root.path().display();
    for pattern in [
        format!("pipe:cat {folder}/{{0..1}}.tar"),
        "0.tar::1.tar.gz".into(),
        format!("0.tar::pipe:cat {folder}/1.tar.gz"),
    ] {
        let fetched = open(&pattern, &root, &cache).unwrap();
        assert_eq!(keys(&fetched), keys(&plain), "{pattern}");
        assert_eq!(fetched.shard_lens(), [3, 3]);
    }
    assert_eq!(names(&cache), ["0", "1", "1", "1"]);
}

#[cfg(unix)]
#[test]
fn what_was_fetched_is_not_fetched_again() {
    let (root, cache) = shards();
    let folder = root.path().display();
    let pattern = format!("pipe:cat {folder}/0.tar; echo >> {folder}/times");
    // The same shard twice in one list is fetched once, too.
    let twice = format!("{pattern}::{pattern}");
    assert_eq!(open(&twice, &root, &cache).unwrap().len(), 6);
    assert_eq!(open(&pattern, &root, &cache).unwrap().len(), 3);
    let times = std::fs::read_to_string(root.path().join("times")).unwrap();
    assert_eq!(times, "\n");
}

#[cfg(unix)]
#[test]
fn a_command_that_fails_at_its_end_leaves_nothing() {
    let (root, cache) = shards();
    let path = |name: &str| root.path().join(name);
    gzip(&path("0.tar"), &path("0.tar.gz"));
    for file in ["0.tar", "0.tar.gz"] {
        let cat = format!("cat {}", path(file).display());
        let pattern = format!("pipe:{cat}; echo token expired >&2; exit 7");
        said(open(&pattern, &root, &cache), &[&cat, "token expired", "7"]);
    }
    assert!(names(&cache).iter().all(|name| !name.ends_with("partial")));
    let left = cache.path().read_dir().unwrap();
    let left: Vec<_> = left.map(|file| file.unwrap().path()).collect();
    assert!(
        left.iter().all(|path| path.extension().unwrap() == "lock"),
        "{left:?}"
    );
    said(
        open("pipe:true", &root, &cache),
        &["pipe:true", "nothing came"],
    );
    let cut = format!("pipe:head -c 2000 {}", path("0.tar").display());
    said(open(&cut, &root, &cache), &["head -c 2000", "cut off"]);
    let page = "pipe:echo '<html>log in'";
    said(open(page, &root, &cache), &["no tar file", "<html>log in"]);
}

#[test]
fn a_compressed_shard_that_is_cut_is_an_error_and_one_that_changed_is_unpacked_again() {
    let (root, cache) = shards();
    let path = |name: &str| root.path().join(name);
    let packed = gzip(&path("0.tar"), &path("a.tgz"));
    std::fs::write(path("a.tgz"), &packed[..packed.len() - 12]).unwrap();
    said(
        open("a.tgz", &root, &cache),
        &["a.tgz", "unpacking gzip", "nothing of it is kept"],
    );
    std::fs::write(path("a.tgz"), &packed).unwrap();
    assert_eq!(keys(&open("a.tgz", &root, &cache).unwrap())[0], "00");
    // Of another length, and in two streams, of which the second is empty.
    let other = gzip(&path("1.tar"), &path("b.tgz"));
    let empty = GzEncoder::new(Vec::new(), Compression::fast());
    std::fs::write(path("a.tgz"), [other, empty.finish().unwrap()].concat()).unwrap();
    assert_eq!(keys(&open("a.tgz", &root, &cache).unwrap())[0], "10");
    let (head, tail) = packed.split_at(packed.len() / 2);
    std::fs::write(path("c.tgz"), [head, &[0; 9], &tail[9..]].concat()).unwrap();
    said(open("c.tgz", &root, &cache), &["c.tgz", "unpacking gzip"]);
    said(open("no.tgz", &root, &cache), &["no.tgz"]);
}

#[test]
fn a_shard_of_too_many_bytes_is_refused() {
    let (root, cache) = shards();
    let path = |name: &str| root.path().join(name);
    std::fs::write(path("zeros.tar"), vec![0; 3 << 20]).unwrap();
    gzip(&path("zeros.tar"), &path("zeros.tar.gz"));
    let config = ShardConfig {
        root: Some(root.path().into()),
        fetch: Fetch {
            max_mb: 2,
            ..Fetch::into_directory(cache.path())
        },
        ..ShardConfig::new("zeros.tar.gz")
    };
    said(
        ShardSource::open(config),
        &["zeros.tar.gz", "2 megabytes", "max_mb"],
    );
}

#[test]
fn without_a_folder_and_beside_embeddings_shards_from_elsewhere_are_refused() {
    let open = |shards: &str, change: fn(&mut ShardConfig)| {
        let mut config = ShardConfig::new(shards);
        change(&mut config);
        ShardSource::open(config)
    };
    let words = ["https://h/0.tar", "--cache-dir", "directory"];
    said(open("https://h/{0..9}.tar", |_| ()), &words);
    said(
        open("pipe:cat a.tar", |_| ()),
        &["pipe:cat a.tar", "--cache-dir"],
    );
    said(open("s3://b/0.tar", |_| ()), &["s3://b/0.tar", "pipe:"]);
    let beside = |config: &mut ShardConfig| {
        config.embeddings = Some(Default::default());
        config.fetch = Fetch::into_directory("nowhere");
    };
    said(
        open("pipe:cat a.tar", beside),
        &["embeddings", "pipe:cat a.tar"],
    );
}

/// A server that gives these answers, head and body, one after the other.
#[cfg(feature = "http")]
fn serve(answers: Vec<(String, Vec<u8>)>) -> (std::net::SocketAddr, std::thread::JoinHandle<()>) {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for (head, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            write!(stream, "HTTP/1.1 {head}\r\n\r\n").unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    (host, server)
}

#[cfg(feature = "http")]
#[test]
fn a_shard_whose_download_broke_is_the_file_and_one_that_is_not_there_is_named() {
    let (root, cache) = shards();
    let bytes = std::fs::read(root.path().join("0.tar")).unwrap();
    let (length, half) = (bytes.len(), bytes.len() / 2);
    let answers = [
        (
            format!("200 OK\r\nContent-Length: {length}"),
            bytes[..half].to_vec(),
        ),
        (
            format!(
                "206 Partial Content\r\nContent-Range: bytes {half}-{}/{length}\r\nContent-Length: {}",
                length - 1,
                length - half
            ),
            bytes[half..].to_vec(),
        ),
        ("404 Not Found\r\nContent-Length: 0".into(), Vec::new()),
    ];
    let (host, server) = serve(answers.into());
    let config = |shards: String| ShardConfig {
        fetch: Fetch {
            pause_ms: 1,
            at_once: 1,
            ..Fetch::into_directory(cache.path())
        },
        ..ShardConfig::new(shards)
    };
    let source = ShardSource::open(config(format!("http://{host}/{{0..0}}.tar"))).unwrap();
    let plain = open("0.tar", &root, &cache).unwrap();
    assert_eq!(keys(&source), keys(&plain));
    // The first is not asked for again, the second ends it.
    let url = format!("http://{host}/{{0..1}}.tar");
    let missing = format!("http://{host}/1.tar");
    said(ShardSource::open(config(url)), &[&missing, "404 Not Found"]);
    server.join().unwrap();
}

#[cfg(all(feature = "http", feature = "parquet"))]
#[test]
fn parquet_files_by_address_are_read_as_the_files_are() {
    use crate::parquet::ParquetConfig;
    let cache = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parquet");
    let open = |files: String| {
        let config = ParquetConfig {
            root: Some(root.clone()),
            fetch: Fetch {
                at_once: 1,
                ..Fetch::into_directory(cache.path())
            },
            max_bad: 0.5,
            ..ParquetConfig::new(files)
        };
        config.open().map_err(|error| error.to_string())
    };
    let answers = ["0.parquet", "1.parquet"].map(|name| {
        let bytes = std::fs::read(root.join(name)).unwrap();
        (format!("200 OK\r\nContent-Length: {}", bytes.len()), bytes)
    });
    let mut cut = answers[0].1.clone();
    cut.truncate(cut.len() - 1);
    let page = b"<html>log in".to_vec();
    let wrong = [cut, page].map(|body| ("200 OK\r\nConnection: close".to_owned(), body));
    let (host, server) = serve([answers, wrong].concat());
    let url = |name: &str| format!("http://{host}/resolve/{name}.parquet?download=true");
    for _ in 0..2 {
        let fetched = open(url("{0..1}")).unwrap(); // the second time from the folder
        let plain = open("{0..1}.parquet".into()).unwrap();
        assert_eq!(fetched.len(), plain.len());
        for index in 0..plain.len() {
            let [fetched, plain] = [&fetched, &plain].map(|source| source.get(index).unwrap());
            assert_eq!((fetched.key, fetched.image), (plain.key, plain.image));
            assert_eq!(fetched.captions, plain.captions);
        }
    }
    assert_eq!(names(&cache), ["0", "1"]);
    for (name, said) in [("2", "cut off"), ("3", "<html>log in")] {
        let error = open(url(name)).err().unwrap();
        assert!(
            error.contains(&url(name)) && error.contains(said),
            "{error}"
        );
    }
    server.join().unwrap();
    let config = ParquetConfig::new("https://h/0.parquet");
    let error = config.open().err().unwrap().to_string();
    assert!(
        error.contains("no parquet file here") && error.contains("--cache-dir"),
        "{error}"
    );
}

#[cfg(not(feature = "http"))]
#[test]
fn a_build_without_http_names_its_two_remedies() {
    let (root, cache) = shards();
    let url = "https://example.invalid/0.tar";
    said(
        open(url, &root, &cache),
        &[url, "--features http", "pipe:curl"],
    );
}
