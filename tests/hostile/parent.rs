//! Who sends seeds to a child, and notes what becomes of it.

use crate::child::{FOLDER, MARK, TARGET};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for one case, the start of a process included.
const PATIENCE: Duration = Duration::from_secs(20);

/// Cases of a run that is told nothing.
const USUAL: u64 = 100;

/// Failures after which a target is given up.
const ENOUGH: usize = 25;

struct Process {
    child: Child,
    seeds: ChildStdin,
    answers: Receiver<String>,
}

impl Process {
    fn start(target: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "child",
                "--exact",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(TARGET, target)
            .env(FOLDER, folder)
            .env("RAYON_NUM_THREADS", "2")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this program again");
        let seeds = child.stdin.take().expect("piped");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(answer) = line.strip_prefix(MARK)
                    && sender.send(answer.to_string()).is_err()
                {
                    return;
                }
            }
        });
        Self {
            child,
            seeds,
            answers,
        }
    }

    /// What becomes of one case: the refusals, or what is wrong and whether the process goes on.
    fn ask(&mut self, seed: u64) -> Result<BTreeSet<String>, (String, bool)> {
        let sent = writeln!(self.seeds, "{seed}").and_then(|()| self.seeds.flush());
        let answer = sent.ok().map(|()| self.answers.recv_timeout(PATIENCE));
        match answer {
            Some(Ok(answer)) => match answer.split_once(' ') {
                Some(("ok", "")) => Ok(BTreeSet::new()),
                Some(("ok", refusals)) => {
                    let refusals = refusals.split("\\t");
                    Ok(refusals.map(|what| what.replace('\\', "")).collect())
                }
                _ => Err((
                    answer.trim_start_matches("failed ").to_string(),
                    !answer.contains("limit of memory"),
                )),
            },
            Some(Err(std::sync::mpsc::RecvTimeoutError::Timeout)) => {
                Err((format!("no answer within {PATIENCE:?}"), false))
            }
            _ => Err(("the process ended".to_string(), false)),
        }
    }

    /// Ends the process, and says how it ended.
    fn end(mut self) -> String {
        let _ = self.child.kill();
        let status = self.child.wait();
        status.map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Sends cases to a target until its time is over.
pub fn attack(target: &str) {
    // One process at a time: their time is measured.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let time = setting("HOSTILE_SECONDS").map_or(Duration::MAX, Duration::from_secs);
    // The same cases everywhere, however fast a machine is, unless a time is given.
    let most = match time == Duration::MAX {
        true => USUAL,
        false => u64::MAX,
    };
    let most = setting("HOSTILE_CASES").unwrap_or(most);
    let first = setting("HOSTILE_SEED").unwrap_or(0);
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = home.path().join("case");
    let mut process = Process::start(target, &folder);
    let (mut cases, mut whole, mut refused) = (0, 0, 0);
    let (mut messages, mut failures) = (BTreeMap::<String, u64>::new(), BTreeMap::new());
    let begin = Instant::now();
    while cases < most && (cases == 0 || begin.elapsed() < time) && failures.len() < ENOUGH {
        let seed = first.wrapping_add(cases);
        cases += 1;
        match process.ask(seed) {
            Ok(refusals) if refusals.is_empty() => whole += 1,
            Ok(refusals) => {
                refused += 1;
                for message in refusals {
                    *messages.entry(message).or_default() += 1;
                }
            }
            Err((what, goes_on)) => {
                let mut what = what;
                if !goes_on {
                    let status =
                        std::mem::replace(&mut process, Process::start(target, &folder)).end();
                    what = format!("{what} ({status})");
                }
                failures
                    .entry(what)
                    .or_insert_with(|| keep(target, seed, &folder));
            }
        }
    }
    process.end();
    eprintln!(
        "{target}: {cases} cases from seed {first} in {:.0?}, {whole} read whole, {refused} refused, {} failures",
        begin.elapsed(),
        failures.len()
    );
    if std::env::var_os("HOSTILE_MESSAGES").is_some() {
        let mut messages: Vec<_> = messages.into_iter().collect();
        messages.sort_by_key(|(_, cases)| Reverse(*cases));
        for (message, cases) in messages {
            eprintln!("{cases:6}  {message}");
        }
    }
    let told: Vec<String> = failures
        .iter()
        .map(|(what, kept)| format!("{}: {what}", kept.display()))
        .collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

/// Copies the files of a case.
fn keep(target: &str, seed: u64, folder: &Path) -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("hostile")
        .join(format!("{target}-{seed}"));
    let _ = std::fs::remove_dir_all(&kept);
    copy(folder, &kept);
    kept
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::create_dir_all(to);
    for entry in std::fs::read_dir(from).into_iter().flatten().flatten() {
        let path = entry.path();
        let to = to.join(entry.file_name());
        match path.is_dir() && !path.is_symlink() {
            true => copy(&path, &to),
            false => drop(std::fs::copy(&path, &to)),
        }
    }
}
