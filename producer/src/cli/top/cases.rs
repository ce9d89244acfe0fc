//! Pictures for the tests of the screen.

use workyard_producer::{Moment, QueueName};

use super::look::{Picture, QueueLine, Rates};
use super::rows::{Line, heads};
use super::screen::View;

pub(super) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

fn line(name: &str, paused: bool) -> QueueLine {
    QueueLine {
        name: queue(name),
        pending: 7,
        scheduled: 0,
        running: if paused { 0 } else { 1 },
        failed: 0,
        inbox: 0,
        consumers: 1,
        paused,
        oldest_ms: Some(61_000),
        rates: Some(Rates {
            submitted: 1.0,
            completed: 20.0,
            failed: 0.0,
        }),
    }
}

/// Two queues, the second paused, and rows of the first.
pub(super) fn picture(view: View, ids: &[&str]) -> Picture {
    let row = |id: &&str| Line {
        id: (*id).to_owned(),
        cells: heads(view).iter().map(|_| (*id).to_owned()).collect(),
        job: None,
        bad: false,
    };
    Picture {
        at: Moment::from_ms(1_700_000_000_000),
        queues: vec![line("mails", false), line("reports", true)],
        more: 0,
        of: Some((queue("mails"), view)),
        rows: ids.iter().map(row).collect(),
    }
}
