//! `top`: a region, live.
//!
//! Each interval the region is opened anew under its name, read-only, which finds the same
//! mapping as long as it is the same region: so one that is destroyed and made again is shown as
//! soon as it is there. The terminal is given back as it was on every way out: keys, signals,
//! errors and panics; also while the process is suspended, after which it is taken again.

mod view;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::{CrosstermBackend, TestBackend};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, enable_raw_mode};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};

use super::Place;
use crate::cli::Top;
use crate::failure::{Failure, Result};
use crate::observe::{Latency, Picture, Probe};
use crate::output::Output;
use view::View;

/// Columns and lines of the text of `--once`.
const TEXT_SIZE: (u16, u16) = (100, 44);
/// Longest sleep between two looks at signals.
const SLICE: Duration = Duration::from_millis(100);
const INTERVAL_MIN: Duration = Duration::from_millis(100);

pub(super) fn top(place: Place, arguments: &Top, output: &mut Output) -> Result<bool> {
    let interval = arguments.interval.max(INTERVAL_MIN);
    if arguments.once {
        return once(place, arguments, interval, output);
    }
    if output.is_json() {
        return Err(Failure::usage("one picture as JSON is `top --once --json`"));
    }
    if !output.is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::usage("top needs a terminal; --once prints one picture"));
    }
    let mut watch = Watch::new(place, &arguments.name);
    // A name that was never there is a mistake; one that goes later may come back.
    let mut view = View::new(&arguments.name, std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    let (picture, latency) = watch.look()?;
    view.update(picture, latency);
    let signals = Signals::new()?;
    // Also lets a panic give the terminal back first.
    let mut terminal = ratatui::try_init().map_err(|error| no_terminal(&error))?;
    let done = live(&mut terminal, &mut view, &mut watch, interval, &signals);
    ratatui::restore();
    done.map(|()| true)
}

fn no_terminal(error: &std::io::Error) -> Failure {
    Failure::file("draw on", "the terminal".as_ref(), error)
}

fn once(place: Place, arguments: &Top, interval: Duration, output: &mut Output) -> Result<bool> {
    let mut watch = Watch::new(place, &arguments.name);
    let mut view = View::new(&arguments.name, false);
    view.shows_keys = false;
    let (picture, latency) = watch.look()?;
    view.update(picture, latency);
    // Rates need two pictures.
    std::thread::sleep(interval);
    let (picture, latency) = watch.look()?;
    view.update(picture, latency);
    if output.is_json() {
        if let Some(picture) = &view.picture {
            output.json(&picture.json(view.rates.as_ref(), view.latency.as_ref()))?;
        }
        return Ok(true);
    }
    for line in text(&view, TEXT_SIZE)? {
        output.line(&line)?;
    }
    Ok(true)
}

/// The view as lines of text.
fn text(view: &View, (width, height): (u16, u16)) -> Result<Vec<String>> {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(_) = terminal.draw(|frame| view.draw(frame));
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let symbols: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        symbols.trim_end().to_owned()
    };
    Ok((0..height).map(line).collect())
}

/// The region under a name, whichever it is.
struct Watch<'a> {
    place: Place<'a>,
    name: &'a str,
    /// Holds the mapping from one look to the next.
    last: Option<cache_shm::Cache>,
    probe: Probe,
}

impl<'a> Watch<'a> {
    fn new(place: Place<'a>, name: &'a str) -> Watch<'a> {
        Watch { place, name, last: None, probe: Probe::default() }
    }

    fn look(&mut self) -> Result<(Picture, Option<Latency>)> {
        let cache = self.place.look(self.name)?;
        let picture = Picture::take(&cache)?;
        let latency = self.probe.take(&cache)?;
        self.last = Some(cache);
        Ok((picture, latency))
    }
}

/// What signals asked of the process.
struct Signals {
    ended: Arc<AtomicBool>,
    suspended: Arc<AtomicBool>,
    continued: Arc<AtomicBool>,
    ids: Vec<signal_hook::SigId>,
}

impl Signals {
    fn new() -> Result<Signals> {
        let [ended, suspended, continued] = std::array::from_fn(|_| Arc::<AtomicBool>::default());
        let mut ids = Vec::new();
        for (signal, flag) in [
            (SIGINT, &ended),
            (SIGTERM, &ended),
            (SIGHUP, &ended),
            (SIGQUIT, &ended),
            (SIGTSTP, &suspended),
            (SIGCONT, &continued),
        ] {
            let id = signal_hook::flag::register(signal, Arc::clone(flag));
            ids.push(id.map_err(|error| no_terminal(&error))?);
        }
        Ok(Signals { ended, suspended, continued, ids })
    }

    /// Gives the terminal back while the process is suspended, and takes it again afterwards, also
    /// if it was stopped by a signal that nobody can catch. True if it is to be drawn anew.
    fn obey(&self, terminal: &mut ratatui::DefaultTerminal) -> std::io::Result<bool> {
        // Relaxed, here and below: flags that publish nothing.
        if self.suspended.swap(false, Ordering::Relaxed) {
            terminal.show_cursor()?;
            ratatui::restore();
            // Returns when the process goes on.
            signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
            self.continued.store(true, Ordering::Relaxed);
        }
        let is_back = self.continued.swap(false, Ordering::Relaxed);
        if is_back {
            // Whoever had the terminal meanwhile may have changed its modes, so they are set from the start.
            ratatui::restore();
            enable_raw_mode()?;
            execute!(std::io::stdout(), EnterAlternateScreen)?;
            // One that knows of nothing on the screen; to clear it by itself it would ask where the cursor is.
            *terminal = Terminal::new(CrosstermBackend::new(std::io::stdout()))?;
        }
        Ok(is_back)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.ids.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

fn live(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    watch: &mut Watch<'_>,
    interval: Duration,
    signals: &Signals,
) -> Result<()> {
    let mut due = Instant::now() + interval;
    let mut is_changed = true;
    // Relaxed: a flag that publishes nothing.
    while !signals.ended.load(Ordering::Relaxed) {
        if signals.obey(terminal).map_err(|error| no_terminal(&error))? || is_changed {
            terminal.draw(|frame| view.draw(frame)).map_err(|error| no_terminal(&error))?;
        }
        let wait = due.saturating_duration_since(Instant::now()).min(SLICE);
        is_changed = event::poll(wait).map_err(|error| no_terminal(&error))?;
        if is_changed && !on_event(view, &event::read().map_err(|error| no_terminal(&error))?) {
            break;
        }
        if Instant::now() >= due {
            due = Instant::now() + interval;
            if !view.is_paused {
                match watch.look() {
                    Ok((picture, latency)) => view.update(picture, latency),
                    Err(failure) => view.trouble = Some(failure.to_string()),
                }
            }
            is_changed = true;
        }
    }
    Ok(())
}

/// Does what a key says; false for the end.
fn on_event(view: &mut View, event: &Event) -> bool {
    let Event::Key(key) = event else { return true };
    if key.kind == KeyEventKind::Release {
        return true;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('p') => view.is_paused = !view.is_paused,
        KeyCode::Right | KeyCode::Tab => view.pane = view.pane.step(1),
        KeyCode::Left => view.pane = view.pane.step(2),
        KeyCode::Down => view.sort = view.sort.step(1),
        KeyCode::Up => view.sort = view.sort.step(4),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests;
