//! `top`: queues, consumers, tasks and jobs on one screen, live, with keys to operate them.
//!
//! Keys and looks at Redis each have a task of their own, and this loop only draws what they bring: a Redis that is slow or
//! away never makes a key wait. Invariant: however it ends, the terminal is as it was before.

mod act;
#[cfg(test)]
mod cases;
mod draw;
mod look;
mod rows;
mod screen;

use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::{mpsc, watch};
use workyard_producer::{Client, Error};

use super::args::TopArgs;
use super::exit::{CliError, Exit};
use super::session::Session;
use look::Picture;
use screen::{Screen, Step, Wanted};

/// What the loop hears.
#[derive(Debug)]
enum News {
    /// Something happened at the terminal; `Err`: it has gone.
    Terminal(std::io::Result<Event>),
    /// A look at Redis.
    Look(Box<Result<Picture, Error>>),
    /// What came of something that the user did.
    Done(String),
    /// We were told to end.
    End,
}

/// Puts the terminal back, on every way out.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Runs `top`.
pub(crate) async fn run(args: &TopArgs, session: &mut Session) -> Result<Exit, CliError> {
    if session.out.json || !session.out.terminal {
        return Err(CliError::usage(
            "top draws on a terminal, and there is none",
            Some("scripts use `workyard stats --json`, `workyard consumers --watch --json` or `workyard metrics`"),
        ));
    }
    // Before the screen is taken, so that what is wrong is told as ever.
    session.known_queue().await?;
    let only = session.named.then(|| session.queue.clone());
    let (say, mut news) = mpsc::unbounded_channel();
    let (want, wanted) = watch::channel(Wanted::default());
    tokio::spawn(look_again(
        session.client.clone(),
        look::Looker::new(only),
        args.every,
        wanted,
        say.clone(),
    ));
    tokio::spawn(hear_the_end(say.clone()));

    let mut terminal = ratatui::try_init().map_err(|e| CliError::usage(format!("the terminal: {e}"), None))?;
    let _restore = Restore;
    read_keys(say.clone());
    let mut screen = Screen::new(draw::colours());
    loop {
        terminal
            .draw(|frame| draw::draw(frame, &mut screen))
            .map_err(|e| CliError::output(&e))?;
        // Whatever has come meanwhile is drawn at once.
        let mut next = news.recv().await;
        while let Some(heard) = next {
            match heard {
                News::Look(seen) => screen.take(*seen).map_err(CliError::from)?,
                News::Done(text) => screen.note(text),
                News::End | News::Terminal(Err(_)) => return Ok(Exit::Done),
                News::Terminal(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => match screen.key(key) {
                    Step::Stay => {}
                    Step::Quit => return Ok(Exit::Done),
                    Step::Do(act) => {
                        let (client, say) = (session.client.clone(), say.clone());
                        let again = want.clone();
                        tokio::spawn(async move {
                            // Nobody hears it if the screen has been left.
                            say.send(News::Done(act.run(&client).await)).ok();
                            again.send_modify(|_| ());
                        });
                    }
                },
                News::Terminal(Ok(_)) => {}
            }
            next = news.try_recv().ok();
        }
        let now = screen.wanted();
        want.send_if_modified(|wanted| {
            let changed = *wanted != now;
            *wanted = now;
            changed
        });
    }
}

/// Looks every so often, and at once when something else is to be shown.
async fn look_again(
    client: Client,
    mut looker: look::Looker,
    every: Duration,
    mut wanted: watch::Receiver<Wanted>,
    say: mpsc::UnboundedSender<News>,
) {
    loop {
        let want = wanted.borrow_and_update().clone();
        let seen = looker.look(&client, &want).await;
        let failed = seen.is_err();
        if say.send(News::Look(Box::new(seen))).is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            // An outage is not asked about faster because somebody presses keys.
            changed = wanted.changed(), if !failed => if changed.is_err() { return },
        }
    }
}

/// Reads the keyboard in a thread that ends with the process: a read of a terminal cannot be broken off.
fn read_keys(say: mpsc::UnboundedSender<News>) {
    std::thread::spawn(move || {
        loop {
            let event = event::read();
            let gone = event.is_err();
            if say.send(News::Terminal(event)).is_err() || gone {
                return;
            }
        }
    });
}

/// The terminal turns Ctrl-C into a key; these come from elsewhere.
async fn hear_the_end(say: mpsc::UnboundedSender<News>) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut term), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
            return;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = hangup.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    say.send(News::End).ok();
}
