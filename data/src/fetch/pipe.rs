//! The output of a command, which counts only if the command ends well.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The end of what a command said on standard error that is quoted.
const QUOTED: u64 = 2000;

/// A running command. Dropped before its end it is stopped; it is waited for in any case.
pub(super) struct Pipe {
    child: Child,
    output: ChildStdout,
    /// Its standard error. A file and no pipe: nobody has to read it while the command runs.
    said: File,
    ended: bool,
}

impl Pipe {
    /// Starts a command of the shell, as webdataset does.
    pub fn start(command: &str) -> io::Result<Self> {
        let said = tempfile::tempfile()?;
        let mut shell = match cfg!(windows) {
            true => Command::new("cmd"),
            false => Command::new("sh"),
        };
        let mut child = shell
            .arg(if cfg!(windows) { "/C" } else { "-c" })
            .arg(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said.try_clone()?)
            .spawn()?;
        let output = child.stdout.take().expect("it is piped");
        Ok(Self {
            child,
            output,
            said,
            ended: false,
        })
    }

    /// How a failed command ended, in its own words.
    fn failure(&mut self, status: std::process::ExitStatus) -> io::Error {
        let mut words = Vec::new();
        let end = self.said.seek(SeekFrom::End(0)).unwrap_or(0);
        let start = SeekFrom::Start(end.saturating_sub(QUOTED));
        // Without its words the status must do.
        let _ = self
            .said
            .seek(start)
            .and_then(|_| self.said.read_to_end(&mut words));
        let words = String::from_utf8_lossy(&words);
        let words = match words.trim() {
            "" => "it said nothing".to_owned(),
            words => format!("it said: {words}"),
        };
        io::Error::other(format!("the command failed ({status}); {words}"))
    }
}

impl Read for Pipe {
    /// At the end of the output waits for the command; that it failed is an error.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.output.read(bytes)?;
        if count == 0 && !bytes.is_empty() && !self.ended {
            self.ended = true;
            let status = self.child.wait()?;
            if !status.success() {
                return Err(self.failure(status));
            }
        }
        Ok(count)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Of one that has ended both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn output(command: &str) -> io::Result<String> {
        let mut text = String::new();
        Pipe::start(command)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn the_output_of_a_command_that_ends_well_is_read() {
        assert_eq!(output("printf abc; echo noise >&2").unwrap(), "abc");
        assert_eq!(output("cat").unwrap(), "", "there is nothing to read");
    }

    #[test]
    fn a_command_that_fails_at_its_end_is_an_error_with_its_words() {
        let said = |command: &str| output(command).unwrap_err().to_string();
        let error = said("printf abc; echo no such bucket >&2; exit 3");
        assert!(
            error.contains("no such bucket") && error.contains('3'),
            "{error}"
        );
        assert!(said("exit 1").contains("it said nothing"));
        let error = said("no-such-command-here");
        assert!(
            error.contains("no-such-command-here") && error.contains("127"),
            "{error}"
        );
        let long = said("for i in $(seq 9999); do echo $i >&2; done; exit 1");
        assert!(long.len() < 3000 && long.contains("9999"), "{}", long.len());
    }

    #[test]
    fn a_command_that_is_not_read_to_its_end_is_stopped_and_waited_for() {
        let mut pipe = Pipe::start("yes").unwrap();
        let id = pipe.child.id();
        pipe.read_exact(&mut [0; 10]).unwrap();
        drop(pipe);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
