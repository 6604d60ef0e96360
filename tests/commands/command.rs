//! Running an example's binary, and what it runs on.

use image::{Rgb, RgbImage};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a command said and how it ended.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The binary of an example. `cargo test` builds examples beside the tests.
pub fn binary(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile
        .join("examples")
        .join(format!("{example}{}", std::env::consts::EXE_SUFFIX))
}

/// Runs an example in `folder`.
#[track_caller]
pub fn run_in<I: AsRef<OsStr>>(folder: &Path, example: &str, arguments: &[I]) -> Outcome {
    run_with(folder, &[], example, arguments)
}

/// Runs an example in `folder` with more environment variables.
#[track_caller]
fn run_with<I: AsRef<OsStr>>(
    folder: &Path,
    variables: &[(&str, &str)],
    example: &str,
    arguments: &[I],
) -> Outcome {
    let binary = binary(example);
    let output = Command::new(&binary)
        .args(arguments)
        .current_dir(folder)
        .env_remove("RUST_BACKTRACE")
        .envs(variables.iter().copied())
        .output()
        .unwrap_or_else(|error| {
            panic!("{}: {error}; `cargo test` builds it", binary.display());
        });
    Outcome::of(output)
}

impl Outcome {
    #[track_caller]
    pub fn of(output: Output) -> Self {
        let outcome = Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        outcome
    }

    /// The command must have succeeded.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// The command must have failed and said all of `words`.
    #[track_caller]
    pub fn refused(self, words: &[&str]) -> Self {
        assert!(
            self.code.is_some_and(|code| code != 0),
            "the command ended with {:?}: {}",
            self.code,
            self.stderr
        );
        self.said(words)
    }

    /// stderr must contain all of `words`.
    #[track_caller]
    pub fn said(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no `{word}` in: {}",
                self.stderr
            );
        }
        self
    }
}

/// A folder of one test, removed behind it.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs an example here; relative paths are those of this folder.
    #[track_caller]
    pub fn run<I: AsRef<OsStr>>(&self, example: &str, arguments: &[I]) -> Outcome {
        run_in(self.0.path(), example, arguments)
    }

    /// Runs an example here with more environment variables.
    #[track_caller]
    pub fn run_with<I: AsRef<OsStr>>(
        &self,
        variables: &[(&str, &str)],
        example: &str,
        arguments: &[I],
    ) -> Outcome {
        run_with(self.0.path(), variables, example, arguments)
    }

    /// Starts an example here, sends it SIGTERM as soon as `ready` and waits for its end.
    #[track_caller]
    pub fn terminate_when<I: AsRef<OsStr>>(
        &self,
        example: &str,
        arguments: &[I],
        ready: impl Fn() -> bool,
    ) -> Outcome {
        self.terminate_times(1, example, arguments, ready)
    }

    /// The same with a second SIGTERM a moment later.
    #[track_caller]
    pub fn terminate_twice_when<I: AsRef<OsStr>>(
        &self,
        example: &str,
        arguments: &[I],
        ready: impl Fn() -> bool,
    ) -> Outcome {
        self.terminate_times(2, example, arguments, ready)
    }

    #[track_caller]
    fn terminate_times<I: AsRef<OsStr>>(
        &self,
        times: usize,
        example: &str,
        arguments: &[I],
        ready: impl Fn() -> bool,
    ) -> Outcome {
        let mut child = self.start_and_wait(example, arguments, Stdio::piped(), ready);
        for _ in 0..times {
            let kill = Command::new("kill").arg(child.id().to_string()).status();
            assert!(kill.unwrap().success());
            std::thread::sleep(Duration::from_millis(10)); // two at once are one
        }
        child.stdin.take();
        Outcome::of(child.wait_with_output().unwrap())
    }

    /// Starts an example here and kills it (SIGKILL) as soon as `ready`.
    #[track_caller]
    pub fn kill_when<I: AsRef<OsStr>>(
        &self,
        example: &str,
        arguments: &[I],
        ready: impl Fn() -> bool,
    ) {
        let mut child = self.start_and_wait(example, arguments, Stdio::null(), ready);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts an example here and kills it (SIGKILL) as soon as `ready`, if it has not ended by then.
    #[track_caller]
    pub fn kill_or_end<I: AsRef<OsStr>>(
        &self,
        example: &str,
        arguments: &[I],
        ready: impl Fn() -> bool,
    ) {
        let mut command = Command::new(binary(example));
        let command = command.args(arguments).current_dir(self.0.path());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        while !ready() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill(); // it may have ended
        child.wait().unwrap();
    }

    #[track_caller]
    fn start_and_wait<I: AsRef<OsStr>>(
        &self,
        example: &str,
        arguments: &[I],
        stderr: Stdio,
        ready: impl Fn() -> bool,
    ) -> Child {
        let mut child: Child = Command::new(binary(example))
            .args(arguments)
            .current_dir(self.0.path())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !ready() {
            assert!(
                start.elapsed() < Duration::from_secs(120),
                "it never was ready"
            );
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended before it was killed");
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// An image whose colours depend on `seed`; the format follows the extension.
    pub fn image(&self, name: &str, [height, width]: [u32; 2], seed: u32) -> PathBuf {
        let path = self.write(name, "");
        RgbImage::from_fn(width, height, |x, y| {
            let level = |a: u32, b: u32| ((a * x + b * y + 40 * seed) % 251) as u8;
            Rgb([level(3, 1), level(1, 5), level(2, 2 + seed)])
        })
        .save(&path)
        .unwrap();
        path
    }

    /// Names of the files and folders here, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = self.0.path().read_dir().unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A directory of the tiny preset with random weights, written by `convert`.
    pub fn tiny_model(&self, name: &str) -> PathBuf {
        self.run("convert", &["--from", "tiny", "--out", name])
            .succeeded();
        self.path(name)
    }
}

/// A file made by the reference.
pub fn fixture(name: &str) -> PathBuf {
    tests::fixture("commands").join(name)
}

/// Arguments of a line without spaces inside them.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(Into::into).collect()
}
