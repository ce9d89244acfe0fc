//! The picture: a line of sums, the queues, one view of the selected queue, the keys.
//!
//! Invariant: what others wrote (ids, errors, kinds) is shown without control characters; a small terminal shows less, never
//! fails.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as Words, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, RenderDirection, Row, Sparkline, Table, TableState};
use workyard_shared::duration;

use super::look::{QUEUES, QueueLine, ROWS};
use super::rows::{self, Line};
use super::screen::{Mode, Screen, View};
use crate::cli::output::clean;
use crate::cli::time::time_of_day;

/// Most rows of queues.
const QUEUE_ROWS: u16 = 10;
/// Most characters of a cell, but the last.
const CELL: usize = 44;

const HELP: &str = "\
 left right     select a queue
 up down j k    select a row (also page up, page down)
 tab, 1 to 6    running, pending, scheduled, failed, consumers, jobs

 p   pause the queue, or resume it
 c   cancel the selected task or job (asks)
 r   retry the selected dead letter or job
 R   retry all dead letters of the queue (asks)

 q   quit            ?   this help";

/// Whether colours are wanted: `NO_COLOR` is obeyed.
pub(super) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Draws all.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let shown = u16::try_from(screen.queues().len())
        .unwrap_or(u16::MAX)
        .clamp(1, QUEUE_ROWS);
    let [head, queues, course, tabs, view, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(shown + 1),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(2),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let paint = Paint {
        colours: screen.colours,
    };
    frame.render_widget(Paragraph::new(summed(screen, paint)), head);
    draw_queues(frame, screen, paint, queues);
    draw_course(frame, screen, paint, course);
    frame.render_widget(Paragraph::new(titles(screen, paint)), tabs);
    draw_rows(frame, screen, paint, view);
    frame.render_widget(Paragraph::new(footer(screen, paint)), foot);
    if screen.mode == Mode::Help {
        draw_help(frame);
    }
}

/// Styles, with colours or without.
#[derive(Clone, Copy)]
struct Paint {
    colours: bool,
}

impl Paint {
    fn colour(self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    fn bold() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn selected() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

fn summed(screen: &Screen, paint: Paint) -> Words<'static> {
    let Some(picture) = &screen.picture else {
        let text = screen
            .away
            .as_ref()
            .map_or("workyard top: looking ...".to_owned(), |why| clean(why, 200));
        return Words::raw(text);
    };
    let sum = |of: fn(&QueueLine) -> u64| picture.queues.iter().map(of).sum::<u64>();
    let rate = |of: fn(&QueueLine) -> f64| picture.queues.iter().map(of).sum::<f64>();
    let text = format!(
        "workyard  {}  {} queues  {} pending  {} running  {} failed  in {}/s  done {}/s",
        time_of_day(picture.at),
        picture.queues.len() + picture.more,
        sum(|line| line.pending),
        sum(|line| line.running),
        sum(|line| line.failed),
        per_second(Some(rate(|line| line.rates.map_or(0.0, |rates| rates.submitted)))),
        per_second(Some(rate(|line| line.rates.map_or(0.0, |rates| rates.completed)))),
    );
    let mut words = vec![Span::styled(text, Paint::bold())];
    if picture.more > 0 {
        words.push(Span::raw(format!(
            "  (the first {QUEUES} are shown; --queue shows one)"
        )));
    }
    if let Some(why) = &screen.away {
        words.push(Span::styled(
            format!("  OLD: {}", clean(why, 120)),
            paint.colour(Color::Red),
        ));
    }
    Words::from(words)
}

/// A rate, or "-" while there is none.
fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        // The sum of no rates is -0.
        Some(rate) if rate < 0.05 => "0".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

const QUEUE_HEADS: [&str; 12] = [
    "queue",
    ">pending",
    ">sched",
    ">running",
    ">failed",
    ">inbox",
    ">consumers",
    ">in/s",
    ">done/s",
    ">err/s",
    ">oldest",
    "",
];

fn draw_queues(frame: &mut Frame<'_>, screen: &Screen, paint: Paint, area: Rect) {
    let lines: Vec<Vec<String>> = screen.queues().iter().map(queue_cells).collect();
    if lines.is_empty() {
        if screen.picture.is_some() {
            frame.render_widget(
                Paragraph::new("no queue has been used yet: workyard enqueue KIND adds a task"),
                area,
            );
        }
        return;
    }
    let styles = screen.queues().iter().map(|line| match line.paused {
        true => paint.colour(Color::Yellow),
        false if line.failed > 0 => paint.colour(Color::Red),
        false => Style::new(),
    });
    table(frame, area, &QUEUE_HEADS, lines, styles.collect(), screen.queue_at());
}

fn queue_cells(line: &QueueLine) -> Vec<String> {
    let oldest = line.oldest_ms.map(|ms| Duration::from_secs(ms / 1000));
    vec![
        line.name.to_string(),
        line.pending.to_string(),
        line.scheduled.to_string(),
        line.running.to_string(),
        line.failed.to_string(),
        line.inbox.to_string(),
        line.consumers.to_string(),
        per_second(line.rates.map(|rates| rates.submitted)),
        per_second(line.rates.map(|rates| rates.completed)),
        per_second(line.rates.map(|rates| rates.failed)),
        oldest.map_or_else(|| "-".to_owned(), duration::format),
        if line.paused {
            "paused".to_owned()
        } else {
            String::new()
        },
    ]
}

fn draw_course(frame: &mut Frame<'_>, screen: &Screen, paint: Paint, area: Rect) {
    let [label, line] = Layout::horizontal([Constraint::Length(16), Constraint::Min(0)]).areas(area);
    let course = screen.course(usize::from(line.width));
    if course.is_empty() {
        return;
    }
    let most = course.iter().max().copied().unwrap_or_default();
    frame.render_widget(Paragraph::new(format!("done/s\nmost {most}")), label);
    let course = Sparkline::default()
        .data(course)
        .direction(RenderDirection::RightToLeft)
        .style(paint.colour(Color::Green));
    frame.render_widget(course, line);
}

fn titles(screen: &Screen, paint: Paint) -> Words<'static> {
    let mut words = Vec::new();
    if let Some(queue) = screen.queue_line() {
        words.push(Span::styled(format!("{}: ", queue.name), Paint::bold()));
    }
    for (n, view) in View::ALL.into_iter().enumerate() {
        let style = if view == screen.view {
            Paint::selected()
        } else {
            Style::new()
        };
        words.push(Span::styled(format!(" {} {} ", n + 1, view.title()), style));
    }
    if screen.rows().is_some_and(|rows| rows.len() >= ROWS) {
        let text = format!("  the first {ROWS} are shown; `workyard list` shows all");
        words.push(Span::styled(text, paint.colour(Color::Yellow)));
    }
    Words::from(words)
}

fn draw_rows(frame: &mut Frame<'_>, screen: &Screen, paint: Paint, area: Rect) {
    let Some(rows) = screen.rows() else { return };
    if rows.is_empty() {
        frame.render_widget(
            Paragraph::new(format!("nothing is here ({})", screen.view.title())),
            area,
        );
        return;
    }
    let lines = rows.iter().map(|row: &Line| row.cells.clone()).collect();
    let style = |row: &Line| {
        if row.bad {
            paint.colour(Color::Red)
        } else {
            Style::new()
        }
    };
    let styles = rows.iter().map(style).collect();
    table(frame, area, rows::heads(screen.view), lines, styles, screen.row_at());
}

/// Columns as wide as what is in them; the last has what is left.
fn table(
    frame: &mut Frame<'_>,
    area: Rect,
    heads: &[&str],
    lines: Vec<Vec<String>>,
    styles: Vec<Style>,
    selected: Option<usize>,
) {
    let lines: Vec<Vec<String>> = lines
        .into_iter()
        .map(|cells| {
            let last = cells.len().saturating_sub(1);
            let most = |n: usize| if n == last { usize::MAX } else { CELL };
            cells.iter().enumerate().map(|(n, cell)| clean(cell, most(n))).collect()
        })
        .collect();
    let width = |n: usize| {
        let cells = lines.iter().filter_map(|line| line.get(n));
        let widest = cells.map(|cell| Span::raw(cell.as_str()).width()).max();
        let head = heads[n].trim_start_matches('>').len();
        u16::try_from(widest.unwrap_or_default().max(head)).unwrap_or(u16::MAX)
    };
    let widths: Vec<Constraint> = (0..heads.len())
        .map(|n| match n + 1 == heads.len() {
            true => Constraint::Fill(1),
            false => Constraint::Length(width(n)),
        })
        .collect();
    let cell = |n: usize, text: String| {
        let numbers = heads.get(n).is_some_and(|head| head.starts_with('>'));
        Words::from(text).alignment(if numbers { Alignment::Right } else { Alignment::Left })
    };
    let header = heads.iter().enumerate();
    let header = header.map(|(n, head)| cell(n, head.trim_start_matches('>').to_uppercase()));
    let table_rows = lines.into_iter().zip(styles).map(|(line, style)| {
        let cells = line.into_iter().enumerate().map(|(n, text)| cell(n, text));
        Row::new(cells).style(style)
    });
    let table = Table::new(table_rows, widths)
        .header(Row::new(header).style(Paint::bold()))
        .column_spacing(2)
        .row_highlight_style(Paint::selected());
    let mut state = TableState::new().with_selected(selected);
    frame.render_stateful_widget(table, area, &mut state);
}

fn footer(screen: &Screen, paint: Paint) -> Words<'static> {
    if let Mode::Ask(act) = &screen.mode {
        let question = act.question().unwrap_or_default();
        return Words::styled(
            format!("{}  y does it, any other key does not", clean(&question, 200)),
            Paint::bold(),
        );
    }
    if let Some(said) = &screen.said {
        return Words::styled(clean(said, 300), paint.colour(Color::Cyan));
    }
    Words::raw("q quit  ? help  < > queue  tab view  p pause/resume  c cancel  r retry  R retry all")
}

fn draw_help(frame: &mut Frame<'_>) {
    let (width, height) = (70.min(frame.area().width), 13.min(frame.area().height));
    let area = Rect {
        x: (frame.area().width - width) / 2,
        y: (frame.area().height - height) / 2,
        width,
        height,
    };
    let help = Paragraph::new(HELP).block(Block::new().borders(Borders::ALL).title(" keys "));
    frame.render_widget(Clear, area);
    frame.render_widget(help, area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::*;
    use crate::cli::top::act::Act;
    use crate::cli::top::cases::{picture, queue};
    use crate::cli::top::screen::Step;

    fn drawn(screen: &mut Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_the_queues_and_the_rows_of_the_selected_one() {
        let mut screen = Screen::new(false);
        screen.take(Ok(picture(View::Running, &["t1", "t2\u{1b}[2J"]))).unwrap();
        let text = drawn(&mut screen, 120, 20);
        for shown in [
            "2 queues",
            "mails",
            "reports",
            "paused",
            "t1",
            "t2\\u{1b}[2J",
            "1 running",
            "q quit",
        ] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
        assert!(
            !text.contains('\u{1b}'),
            "what others wrote does not drive the terminal"
        );
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn_on() {
        let mut screen = Screen::new(true);
        for taken in [false, true] {
            for (width, height) in [(1, 1), (5, 3), (20, 8), (300, 100)] {
                drawn(&mut screen, width, height);
                screen.mode = Mode::Help;
                drawn(&mut screen, width, height);
                screen.mode = Mode::Browse;
            }
            if !taken {
                screen.take(Ok(picture(View::Running, &["t1"]))).unwrap();
            }
        }
    }

    #[test]
    fn what_is_asked_before_it_is_done_stands_in_the_last_line() {
        let mut screen = Screen::new(false);
        screen.take(Ok(picture(View::Running, &["t1"]))).unwrap();
        let press = |screen: &mut Screen, code| screen.key(KeyEvent::new(code, KeyModifiers::NONE));
        press(&mut screen, KeyCode::Down);
        press(&mut screen, KeyCode::Char('c'));
        assert!(drawn(&mut screen, 100, 20).contains("Cancel task t1?"));
        let step = press(&mut screen, KeyCode::Char('y'));
        assert_eq!(step, Step::Do(Act::CancelTask(queue("mails"), "t1".to_owned())));
    }
}
