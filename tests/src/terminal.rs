//! A program on a terminal of its own: a pseudo terminal that this process types into and reads the screen of.
//!
//! Invariant: the program is killed when the terminal is dropped. What it writes is read all the time, so it never blocks.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::process::end;
use crate::wait::{wait_for, wait_until};

const ROWS: NonZeroU16 = NonZeroU16::new(30).unwrap();
const COLUMNS: NonZeroU16 = NonZeroU16::new(160).unwrap();
const SOON: Duration = Duration::from_secs(30);

/// A terminal with a program on it.
#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Screen>>,
    child: Mutex<Child>,
}

/// What the program has drawn.
struct Screen(vt100::Parser);

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.screen().contents())
    }
}

impl Terminal {
    /// Runs `command` on a terminal of 160 columns and 30 rows.
    ///
    /// # Panics
    /// When the system gives no terminal or the program cannot be started.
    pub fn run(command: &Command) -> Self {
        let (ours, theirs) = pair();
        let file = |fd: &OwnedFd| File::from(fd.try_clone().unwrap_or_else(|e| panic!("no descriptor: {e}")));
        let child = with_session(command)
            .env("TERM", "xterm-256color")
            .stdin(file(&theirs))
            .stdout(file(&theirs))
            .stderr(file(&theirs))
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        drop(theirs);
        let screen = Arc::new(Mutex::new(Screen(vt100::Parser::new(ROWS, COLUMNS, 0))));
        read_all(file(&ours), Arc::clone(&screen));
        Self {
            keyboard: File::from(ours),
            screen,
            child: Mutex::new(child),
        }
    }

    /// Presses keys: their bytes, as a terminal sends them.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .unwrap_or_else(|e| panic!("cannot type: {e}"));
    }

    /// What can be read on the screen.
    pub fn text(&self) -> String {
        self.screen().0.screen().contents()
    }

    /// Waits until the screen shows a text.
    ///
    /// # Panics
    /// When it does not within 30 s.
    #[track_caller]
    pub fn shows(&self, text: &str) -> impl Future<Output = Duration> {
        wait_until(SOON, move || async move { self.text().contains(text) })
    }

    /// Whether the program has the screen for itself.
    pub fn is_taken(&self) -> bool {
        self.screen().0.screen().alternate_screen()
    }

    /// Sends a signal to the program.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child()), signal).unwrap_or_else(|e| panic!("cannot signal: {e}"));
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// When it does not end within 30 s.
    #[track_caller]
    pub fn ended(&self) -> impl Future<Output = ExitStatus> {
        wait_for(SOON, move || async move {
            self.child()
                .try_wait()
                .unwrap_or_else(|e| panic!("cannot wait for it: {e}"))
        })
    }

    fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        end(&mut self.child());
        if std::thread::panicking() {
            eprintln!("--- screen\n{}\n---", self.text());
        }
    }
}

/// Our side and the program's.
fn pair() -> (OwnedFd, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .unwrap_or_else(|e| panic!("no pseudo terminal: {e}"));
    let theirs = grantpt(&ours)
        .and_then(|()| unlockpt(&ours))
        .and_then(|()| ptsname(&ours, Vec::new()))
        .and_then(|name| open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()))
        .unwrap_or_else(|e| panic!("no pseudo terminal: {e}"));
    let size = Winsize {
        ws_row: ROWS.get(),
        ws_col: COLUMNS.get(),
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&theirs, size).unwrap_or_else(|e| panic!("a terminal without a size: {e}"));
    (ours, theirs)
}

/// The same command in a session of its own, so that `/dev/tty` is the new terminal and not the one of whoever runs the
/// tests. Where there is no `setsid`, the program finds that one; only its size is then wrong.
fn with_session(command: &Command) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<OsString> = words.map(OsString::from).collect();
    let mut whole = if cfg!(target_os = "linux") {
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").args(&words);
        setsid
    } else {
        let mut plain = Command::new(&words[0]);
        plain.args(&words[1..]);
        plain
    };
    whole.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    whole
}

/// Reads until the last program on the terminal has ended.
fn read_all(mut from: File, screen: Arc<Mutex<Screen>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
            screen.0.process(&buffer[..read]);
        }
    });
}
