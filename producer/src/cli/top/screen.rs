//! What is on the screen, and what keys mean: no terminal and no Redis here.
//!
//! Invariant: the selection follows ids, not places: a row that moves stays selected, and an act never hits the row that
//! took its place.

use std::collections::{HashMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use workyard_producer::{Error, QueueName};

use super::act::Act;
use super::look::{Picture, QueueLine};
use super::rows::Line;

/// Looks that the course of a queue goes back.
const COURSE: usize = 240;

/// What the lower half shows of the selected queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum View {
    #[default]
    Running,
    Pending,
    Scheduled,
    Failed,
    Consumers,
    Jobs,
}

impl View {
    pub(super) const ALL: [Self; 6] = [
        Self::Running,
        Self::Pending,
        Self::Scheduled,
        Self::Failed,
        Self::Consumers,
        Self::Jobs,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Failed => "failed",
            Self::Consumers => "consumers",
            Self::Jobs => "jobs",
        }
    }

    fn place(self) -> usize {
        Self::ALL.iter().position(|view| *view == self).unwrap_or_default()
    }

    fn next(self, by: usize) -> Self {
        Self::ALL[(self.place() + by) % Self::ALL.len()]
    }
}

/// What a look is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    /// The queue whose rows are wanted; `None`: the first.
    pub(super) queue: Option<QueueName>,
    pub(super) view: View,
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Stay,
    Quit,
    Do(Act),
}

/// What the keys are for at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    Help,
    /// Waits for y.
    Ask(Act),
}

/// The screen.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) colours: bool,
    pub(super) picture: Option<Picture>,
    pub(super) view: View,
    pub(super) mode: Mode,
    /// What came of the last act.
    pub(super) said: Option<String>,
    /// Why the picture is old.
    pub(super) away: Option<String>,
    queue: Option<QueueName>,
    row: Option<String>,
    /// Completed per second at each look, newest last.
    courses: HashMap<QueueName, VecDeque<u64>>,
}

impl Screen {
    pub(super) fn new(colours: bool) -> Self {
        Self {
            colours,
            picture: None,
            view: View::default(),
            mode: Mode::Browse,
            said: None,
            away: None,
            queue: None,
            row: None,
            courses: HashMap::new(),
        }
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            queue: self.queue.clone(),
            view: self.view,
        }
    }

    /// Takes what was seen. An outage leaves the picture and says so; another error ends it all.
    pub(super) fn take(&mut self, seen: Result<Picture, Error>) -> Result<(), Error> {
        match seen {
            Ok(picture) => {
                self.away = None;
                for line in &picture.queues {
                    let course = self.courses.entry(line.name.clone()).or_default();
                    let completed = line.rates.map_or(0.0, |rates| rates.completed);
                    course.push_back(completed.round() as u64);
                    if course.len() > COURSE {
                        course.pop_front();
                    }
                }
                self.picture = Some(picture);
                Ok(())
            }
            Err(error) if error.is_temporary() => {
                self.away = Some(error.to_string());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn note(&mut self, text: String) {
        self.said = Some(text);
    }

    pub(super) fn queues(&self) -> &[QueueLine] {
        self.picture.as_ref().map_or(&[], |picture| &picture.queues)
    }

    /// The rows, if those in the picture are of what is wanted now.
    pub(super) fn rows(&self) -> Option<&[Line]> {
        let picture = self.picture.as_ref()?;
        let (queue, view) = picture.of.as_ref()?;
        let chosen = self.queue_line()?;
        (*view == self.view && *queue == chosen.name).then_some(&picture.rows)
    }

    /// Where the selected queue stands.
    pub(super) fn queue_at(&self) -> Option<usize> {
        let queues = self.queues();
        let at = queues.iter().position(|line| Some(&line.name) == self.queue.as_ref());
        at.or((!queues.is_empty()).then_some(0))
    }

    pub(super) fn queue_line(&self) -> Option<&QueueLine> {
        self.queues().get(self.queue_at()?)
    }

    /// Where the selected row stands; `None`: it is gone, or none is selected.
    pub(super) fn row_at(&self) -> Option<usize> {
        let wanted = self.row.as_ref()?;
        self.rows()?.iter().position(|line| line.id == *wanted)
    }

    /// Completed per second of the selected queue at each look, the newest first.
    pub(super) fn course(&self, most: usize) -> Vec<u64> {
        let course = self.queue_line().and_then(|line| self.courses.get(&line.name));
        course.map_or_else(Vec::new, |course| course.iter().rev().take(most).copied().collect())
    }

    pub(super) fn key(&mut self, key: KeyEvent) -> Step {
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Step::Quit;
        }
        self.said = None;
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Ask(act) if matches!(key.code, KeyCode::Char('y' | 'Y')) => Step::Do(act),
            Mode::Ask(_) => {
                self.said = Some("nothing was done".to_owned());
                Step::Stay
            }
            Mode::Help => Step::Stay,
            Mode::Browse => self.browse(key.code),
        }
    }

    fn browse(&mut self, key: KeyCode) -> Step {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Step::Quit,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Tab => self.show(self.view.next(1)),
            KeyCode::BackTab => self.show(self.view.next(View::ALL.len() - 1)),
            KeyCode::Char(digit @ '1'..='6') => {
                self.show(View::ALL[usize::from(digit as u8 - b'1')]);
            }
            KeyCode::Left => self.move_queue(-1),
            KeyCode::Right => self.move_queue(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_row(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_row(1),
            KeyCode::PageUp => self.move_row(-10),
            KeyCode::PageDown => self.move_row(10),
            KeyCode::Char(letter @ ('p' | 'r' | 'R' | 'c')) => return self.act(letter),
            _ => {}
        }
        Step::Stay
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.row = None;
    }

    fn move_queue(&mut self, by: isize) {
        let Some(at) = self.queue_at() else { return };
        let to = at.saturating_add_signed(by).min(self.queues().len() - 1);
        self.queue = Some(self.queues()[to].name.clone());
        self.row = None;
    }

    fn move_row(&mut self, by: isize) {
        let Some(last) = self.rows().and_then(|rows| rows.len().checked_sub(1)) else {
            return;
        };
        let to = match self.row_at() {
            Some(at) => at.saturating_add_signed(by).min(last),
            None => 0,
        };
        self.row = self.rows().and_then(|rows| rows.get(to)).map(|line| line.id.clone());
    }

    /// What the letter does here and now; says why if nothing.
    fn act(&mut self, letter: char) -> Step {
        match self.act_of(letter) {
            Ok(act) if act.question().is_some() => self.mode = Mode::Ask(act),
            Ok(act) => return Step::Do(act),
            Err(why) => self.said = Some(why.to_owned()),
        }
        Step::Stay
    }

    fn act_of(&self, letter: char) -> Result<Act, &'static str> {
        let queue = self.queue_line().ok_or("there is no queue yet")?;
        let name = queue.name.clone();
        match letter {
            'p' if queue.paused => return Ok(Act::Resume(name)),
            'p' => return Ok(Act::Pause(name)),
            'R' => return Ok(Act::RetryAll(name)),
            _ => {}
        }
        let at = self.row_at().ok_or("select a row first: arrows up and down")?;
        let row = &self.rows().unwrap_or_default()[at];
        match (letter, self.view, &row.job) {
            ('c', View::Jobs, Some((_, true))) => Err("this job has ended"),
            ('c', View::Jobs, Some((id, false))) => Ok(Act::CancelJob(name, id.clone())),
            ('r', View::Jobs, Some((id, true))) => Ok(Act::RetryJob(name, id.clone())),
            ('r', View::Jobs, Some((_, false))) => Err("this job goes on"),
            ('c', View::Running | View::Pending | View::Scheduled, _) => Ok(Act::CancelTask(name, row.id.clone())),
            ('c', View::Failed, _) => Err("it has ended; r makes it pending again"),
            ('r', View::Failed, _) => Ok(Act::RetryTask(name, row.id.clone())),
            ('r', _, _) => Err("only dead letters and ended jobs are retried: views 4 and 6"),
            _ => Err("a consumer is stopped where it runs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cases::{picture, queue};
    use super::*;

    fn press(screen: &mut Screen, code: KeyCode) -> Step {
        screen.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn with(view: View, ids: &[&str]) -> Screen {
        let mut screen = Screen::new(false);
        screen.view = view;
        screen.take(Ok(picture(view, ids))).unwrap();
        screen
    }

    #[test]
    fn a_selected_row_stays_selected_when_it_moves_and_nothing_is_when_it_has_gone() {
        let mut screen = with(View::Failed, &["a", "b", "c"]);
        press(&mut screen, KeyCode::Down);
        press(&mut screen, KeyCode::Down);
        assert_eq!(screen.row_at(), Some(1));
        screen.take(Ok(picture(View::Failed, &["x", "a", "b"]))).unwrap();
        assert_eq!(screen.row_at(), Some(2));
        let step = press(&mut screen, KeyCode::Char('r'));
        assert_eq!(step, Step::Do(Act::RetryTask(queue("mails"), "b".to_owned())));
        screen.take(Ok(picture(View::Failed, &["x", "a", "y"]))).unwrap();
        assert_eq!(press(&mut screen, KeyCode::Char('r')), Step::Stay);
        assert!(screen.said.unwrap().contains("select a row"));
    }

    #[test]
    fn rows_of_another_view_or_queue_are_neither_shown_nor_acted_on() {
        let mut screen = with(View::Failed, &["a"]);
        press(&mut screen, KeyCode::Down);
        press(&mut screen, KeyCode::Tab);
        assert_eq!(screen.view, View::Consumers);
        assert!(screen.rows().is_none());
        press(&mut screen, KeyCode::Char('4'));
        press(&mut screen, KeyCode::Right);
        assert_eq!(screen.wanted().queue, Some(queue("reports")));
        assert!(screen.rows().is_none());
        assert_eq!(press(&mut screen, KeyCode::Char('r')), Step::Stay);
    }

    #[test]
    fn p_pauses_a_queue_that_works_and_resumes_one_that_is_paused() {
        let mut screen = with(View::Running, &[]);
        assert_eq!(
            press(&mut screen, KeyCode::Char('p')),
            Step::Do(Act::Pause(queue("mails")))
        );
        press(&mut screen, KeyCode::Right);
        assert_eq!(
            press(&mut screen, KeyCode::Char('p')),
            Step::Do(Act::Resume(queue("reports")))
        );
    }

    #[test]
    fn what_cannot_be_undone_waits_for_y_and_any_other_key_lets_it_be() {
        let mut screen = with(View::Running, &["a"]);
        press(&mut screen, KeyCode::Char('R'));
        assert_eq!(screen.mode, Mode::Ask(Act::RetryAll(queue("mails"))));
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Step::Stay);
        assert_eq!(screen.mode, Mode::Browse);
        press(&mut screen, KeyCode::Char('R'));
        let step = press(&mut screen, KeyCode::Char('y'));
        assert_eq!(step, Step::Do(Act::RetryAll(queue("mails"))));
    }

    #[test]
    fn an_outage_keeps_the_picture_and_is_told_until_redis_answers() {
        let mut screen = with(View::Running, &["a"]);
        let away = || Error::Call(workyard_shared::Error::Unknown("connection refused".to_owned()));
        screen.take(Err(away())).unwrap();
        assert!(screen.away.is_some() && screen.rows().is_some());
        screen.take(Ok(picture(View::Running, &["a"]))).unwrap();
        assert!(screen.away.is_none());
        let denied = Error::Call(workyard_shared::Error::Invalid("no".to_owned()));
        screen.take(Err(denied)).unwrap_err();
    }

    #[test]
    fn ctrl_c_and_q_and_escape_quit() {
        let mut screen = with(View::Running, &[]);
        assert_eq!(press(&mut screen, KeyCode::Char('q')), Step::Quit);
        assert_eq!(press(&mut screen, KeyCode::Esc), Step::Quit);
        let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(screen.key(ctrl_c), Step::Quit);
    }
}
