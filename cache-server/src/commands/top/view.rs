//! What `top` shows, drawn from its state and nothing else.
//!
//! The same drawing is the live screen and the text of `--once`.

use std::collections::VecDeque;

use cache_shm::{Counter, ParticipantInfo, SegmentUse};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline};

use crate::commands::processes::{command, span};
use crate::observe::{Cell, Latency, NamespaceRates, Picture, Rates, operations};
use crate::output::{grouped, printable};

/// Height from which all panes are shown at once.
const ALL_PANES_HEIGHT: u16 = 36;
/// Intervals that the curves remember.
const HISTORY_MAX: usize = 600;
const HEADER_HEIGHT: u16 = 10;

/// What the lower part shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Segments,
    Namespaces,
    Processes,
}

impl Pane {
    const ALL: [Pane; 3] = [Pane::Segments, Pane::Namespaces, Pane::Processes];

    fn title(self) -> &'static str {
        match self {
            Pane::Segments => "segments",
            Pane::Namespaces => "namespaces",
            Pane::Processes => "processes",
        }
    }

    /// The pane so many further on.
    pub fn step(self, by: usize) -> Pane {
        Pane::ALL[(self as usize + by) % Pane::ALL.len()]
    }
}

/// By what namespaces are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Gets,
    Hits,
    Sets,
    Evictions,
    Name,
}

impl Sort {
    const ALL: [Sort; 5] = [Sort::Gets, Sort::Hits, Sort::Sets, Sort::Evictions, Sort::Name];

    /// The column so many further on.
    pub fn step(self, by: usize) -> Sort {
        Sort::ALL[(self as usize + by) % Sort::ALL.len()]
    }

    fn sort(self, rows: &mut [&NamespaceRates]) {
        let by = |key: fn(&NamespaceRates) -> f64| {
            move |a: &&NamespaceRates, b: &&NamespaceRates| key(b).total_cmp(&key(a)).then_with(|| a.name.cmp(&b.name))
        };
        match self {
            Sort::Gets => rows.sort_by(by(|rates| rates.gets)),
            Sort::Hits => rows.sort_by(by(|rates| rates.hit_percent.unwrap_or(-1.0))),
            Sort::Sets => rows.sort_by(by(|rates| rates.sets)),
            Sort::Evictions => rows.sort_by(by(|rates| rates.evictions)),
            Sort::Name => rows.sort_by(|a, b| a.name.cmp(&b.name)),
        }
    }
}

/// Everything that is on the screen.
#[derive(Debug)]
pub(super) struct View {
    pub name: String,
    pub picture: Option<Picture>,
    pub rates: Option<Rates>,
    pub latency: Option<Latency>,
    /// Why there is no newer picture.
    pub trouble: Option<String>,
    pub pane: Pane,
    pub sort: Sort,
    pub is_paused: bool,
    pub colour: bool,
    /// The last line lists the keys, or says what is wrong.
    pub shows_keys: bool,
    gets: VecDeque<u64>,
    /// Operations a second by slot.
    operations: Vec<(u32, f64)>,
}

impl View {
    pub fn new(name: &str, colour: bool) -> View {
        View {
            name: name.to_owned(),
            picture: None,
            rates: None,
            latency: None,
            trouble: None,
            pane: Pane::Segments,
            sort: Sort::Gets,
            is_paused: false,
            colour,
            shows_keys: true,
            gets: VecDeque::new(),
            operations: Vec::new(),
        }
    }

    /// Takes a newer picture. Another region under the name begins anew.
    pub fn update(&mut self, picture: Picture, latency: Option<Latency>) {
        self.trouble = None;
        self.latency = latency;
        self.rates = self.picture.as_ref().and_then(|before| Rates::between(before, &picture));
        self.operations.clear();
        match (&self.picture, &self.rates) {
            (Some(before), Some(rates)) => {
                self.gets.push_back(rates.gets as u64);
                if self.gets.len() > HISTORY_MAX {
                    self.gets.pop_front();
                }
                for info in &picture.participants {
                    let same = |old: &&ParticipantInfo| {
                        (old.slot, old.pid, old.start_time) == (info.slot, info.pid, info.start_time)
                    };
                    if let Some(old) = before.participants.iter().find(same) {
                        self.operations.push((info.slot, operations(old, info, rates.seconds)));
                    }
                }
            }
            _ => self.gets.clear(),
        }
        self.picture = Some(picture);
    }

    fn ink(&self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn bold(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Draws everything.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let keys_height = u16::from(self.shows_keys);
        let [title, body, keys] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(keys_height)])
                .areas(frame.area());
        frame.render_widget(self.title(), title);
        if self.shows_keys {
            let text = "q quit   p pause   left/right pane   up/down sort namespaces";
            let line = match &self.trouble {
                Some(trouble) => Line::styled(trouble.clone(), self.ink(Color::Red)),
                None => Line::styled(text, self.ink(Color::DarkGray)),
            };
            frame.render_widget(line, keys);
        }
        let Some(picture) = &self.picture else {
            return;
        };
        let [head, panes] = Layout::vertical([Constraint::Length(HEADER_HEIGHT), Constraint::Min(0)]).areas(body);
        self.draw_head(frame, head, picture);
        if frame.area().height >= ALL_PANES_HEIGHT {
            // A line of title and an empty one; the map has its lines, up to half of what there is.
            let map_lines = picture.cells.len().div_ceil(usize::from(panes.width).max(1)) as u16;
            let map_height = (map_lines + 2).min(panes.height / 2);
            let heights = [Constraint::Length(map_height), Constraint::Fill(1), Constraint::Fill(1)];
            let areas: [Rect; 3] = Layout::vertical(heights).areas(panes);
            for (pane, area) in Pane::ALL.into_iter().zip(areas) {
                self.draw_pane(frame, area, picture, pane);
            }
        } else {
            self.draw_pane(frame, panes, picture, self.pane);
        }
    }

    fn title(&self) -> Line<'_> {
        let mut spans = vec![Span::styled(printable(self.name.as_bytes()), self.bold())];
        if let Some(picture) = &self.picture {
            let age = span(picture.stats.evicted_age_ms);
            spans.push(Span::raw(format!("  {}", short_bytes(picture.stats.region_bytes))));
            spans.push(Span::raw(format!("  {} items", grouped(picture.stats.items))));
            spans.push(Span::raw(format!("  {} attached", picture.participants.len())));
            if picture.stats.evictions > 0 {
                spans.push(Span::raw(format!("  evicts what nobody read for {age}")));
            }
        }
        if self.is_paused {
            spans.push(Span::styled("  PAUSED", self.ink(Color::Yellow).add_modifier(Modifier::BOLD)));
        }
        Line::from(spans)
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
        let [numbers, curve, memory] =
            Layout::vertical([Constraint::Length(4), Constraint::Length(3), Constraint::Length(3)]).areas(area);
        frame.render_widget(Paragraph::new(self.numbers(picture)), numbers);
        let block = Block::new().title("reads a second, newest right");
        let width = usize::from(curve.width);
        let newest: Vec<u64> = self.gets.iter().rev().take(width).rev().copied().collect();
        let mut padded = vec![0; width - newest.len()];
        padded.extend(newest);
        frame.render_widget(Sparkline::default().block(block).data(&padded).style(self.ink(Color::Green)), curve);
        frame.render_widget(Paragraph::new(self.memory(picture, memory.width)), memory);
    }

    fn numbers(&self, picture: &Picture) -> Vec<Line<'static>> {
        let rate = |of: fn(&Rates) -> f64| {
            self.rates.as_ref().map_or("-".to_owned(), |rates| grouped(of(rates).round() as u64))
        };
        let hits = self.rates.as_ref().and_then(|rates| rates.hit_percent);
        let now = hits.map_or("-".to_owned(), |hits| format!("{hits:.2} %"));
        let ns = |of: fn(&Latency) -> u64| {
            self.latency.as_ref().map_or("-".to_owned(), |latency| format!("{} ns", grouped(of(latency))))
        };
        let pair = |name: &str, value: String| format!("{name:<14}{value:>12}   ");
        let row = |cells: [String; 3]| Line::from(cells.concat());
        vec![
            row([
                pair("reads/s", rate(|rates| rates.gets)),
                pair("hits, now", now),
                pair("read here p50", ns(|latency| latency.p50_ns)),
            ]),
            row([
                pair("sets/s", rate(|rates| rates.sets)),
                pair("hits, all", format!("{:.2} %", picture.hit_percent())),
                pair("read here p99", ns(|latency| latency.p99_ns)),
            ]),
            row([
                pair("deletes/s", rate(|rates| rates.deletes)),
                pair("evictions/s", rate(|rates| rates.evictions)),
                pair("take-overs", grouped(picture.stats.take_overs)),
            ]),
        ]
    }

    /// A bar of the whole region by use, and its legend.
    fn memory(&self, picture: &Picture, width: u16) -> Vec<Line<'static>> {
        const MARKS: [(char, Color); 6] = [
            ('█', Color::Green),
            ('▒', Color::Yellow),
            ('i', Color::Blue),
            ('c', Color::Red),
            ('f', Color::Magenta),
            ('·', Color::DarkGray),
        ];
        let memory = picture.memory();
        let all: u64 = memory.iter().map(|(_, bytes)| bytes).sum::<u64>().max(1);
        let (mut bar, mut legend, mut drawn, mut summed) = (Vec::new(), Vec::new(), 0, 0);
        for ((name, bytes), (mark, colour)) in memory.into_iter().zip(MARKS) {
            summed += bytes;
            // Rounded by their ends, so that the parts fill the bar.
            let end = (u128::from(summed) * u128::from(width) / u128::from(all)) as usize;
            bar.push(Span::styled(mark.to_string().repeat(end - drawn), self.ink(colour)));
            drawn = end;
            legend.push(Span::styled(mark.to_string(), self.ink(colour)));
            legend.push(Span::raw(format!(" {name} {}  ", short_bytes(bytes))));
        }
        let live = short_bytes(picture.stats.live_bytes);
        vec![Line::from(format!("memory: {live} of values and keys live")), Line::from(bar), Line::from(legend)]
    }

    fn draw_pane(&self, frame: &mut Frame<'_>, area: Rect, picture: &Picture, pane: Pane) {
        let title = if pane == self.pane {
            Span::styled(format!("[{}]", pane.title()), self.bold())
        } else {
            Span::raw(pane.title())
        };
        let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
        let (mut first, lines) = match pane {
            Pane::Segments => self.segments(picture, body),
            Pane::Namespaces => self.namespaces(picture),
            Pane::Processes => self.processes(picture),
        };
        first.insert(0, Span::raw("  "));
        first.insert(0, title);
        frame.render_widget(Line::from(first), head);
        frame.render_widget(Paragraph::new(lines), body);
    }

    fn segments(&self, picture: &Picture, area: Rect) -> (Vec<Span<'static>>, Vec<Line<'static>>) {
        let room = usize::from(area.width) * usize::from(area.height);
        let step = picture.cells.len().div_ceil(room.max(1)).max(1);
        let shown: Vec<Cell> = picture.cells.chunks(step).filter_map(Cell::merged).collect();
        let lines = shown
            .chunks(usize::from(area.width).max(1))
            .map(|row| {
                let marks = row.iter().map(|cell| {
                    let (mark, colour) = mark(cell);
                    Span::styled(mark.to_string(), self.ink(colour))
                });
                Line::from(marks.collect::<Vec<_>>())
            })
            .collect();
        let legend = "live share: small .:+#  main ░▒▓█   o open  r reclaimed  i index  c condemned  · free";
        (vec![Span::styled(legend, self.ink(Color::DarkGray))], lines)
    }

    fn namespaces(&self, picture: &Picture) -> (Vec<Span<'static>>, Vec<Line<'static>>) {
        let sorted = format!("by {}", format!("{:?}", self.sort).to_lowercase());
        let mut lines =
            vec![Line::styled("       reads/s      hits       sets/s  evictions/s  name", self.ink(Color::DarkGray))];
        let none = self.rates.is_none().then(|| {
            let rates = |info: &cache_shm::NamespaceInfo| NamespaceRates {
                name: info.name.clone(),
                gets: 0.0,
                hit_percent: None,
                sets: 0.0,
                evictions: 0.0,
            };
            picture.namespaces.iter().map(rates).collect::<Vec<_>>()
        });
        let known = self.rates.as_ref().map(|rates| &rates.namespaces).or(none.as_ref());
        let mut rows: Vec<&NamespaceRates> = known.into_iter().flatten().collect();
        self.sort.sort(&mut rows);
        lines.extend(rows.into_iter().map(|rates| {
            let name = if rates.name.is_empty() { "(no namespace)".to_owned() } else { printable(&rates.name) };
            let hits = rates.hit_percent.map_or("-".to_owned(), |hits| format!("{hits:.2} %"));
            let number = |number: f64| grouped(number.round() as u64);
            Line::from(format!(
                "{:>14}  {hits:>8}  {:>11}  {:>11}  {name}",
                number(rates.gets),
                number(rates.sets),
                number(rates.evictions)
            ))
        }));
        (vec![Span::styled(sorted, self.ink(Color::DarkGray))], lines)
    }

    fn processes(&self, picture: &Picture) -> (Vec<Span<'static>>, Vec<Line<'static>>) {
        let head = "   operations/s      pid  attached  pins  locks  leases  take-overs  command";
        let mut lines = vec![Line::styled(head, self.ink(Color::DarkGray))];
        let rate = |info: &ParticipantInfo| {
            self.operations.iter().find(|(slot, _)| *slot == info.slot).map_or(0.0, |(_, rate)| *rate)
        };
        let mut infos: Vec<&ParticipantInfo> = picture.participants.iter().collect();
        infos.sort_by(|a, b| rate(b).total_cmp(&rate(a)).then_with(|| a.slot.cmp(&b.slot)));
        lines.extend(infos.into_iter().map(|info| {
            let text = format!(
                "{:>15}  {:>7}  {:>8}  {:>4}  {:>5}  {:>6}  {:>10}  {}",
                grouped(rate(info).round() as u64),
                info.pid,
                span(info.attached_ms),
                u64::from(info.read_pins) + u64::from(info.write_pins),
                u64::from(info.stripes) + u64::from(info.lanes) + u64::from(info.segments),
                info.leases.len(),
                grouped(info.count(Counter::TakeOvers)),
                if info.is_alive { command(info).unwrap_or_default() } else { "(dead)".to_owned() },
            );
            Line::styled(text, if info.is_alive { Style::new() } else { self.ink(Color::Red) })
        }));
        (Vec::new(), lines)
    }
}

/// How a cell of the heat map looks.
fn mark(cell: &Cell) -> (char, Color) {
    let shade = |marks: [char; 4]| marks[((cell.live_share() * 4.0) as usize).min(3)];
    match cell.usage {
        SegmentUse::Free => ('·', Color::DarkGray),
        SegmentUse::Index => ('i', Color::Blue),
        SegmentUse::Condemned => ('c', Color::Red),
        SegmentUse::Claimed | SegmentUse::Open => ('o', Color::Cyan),
        SegmentUse::Reclaiming | SegmentUse::Draining => ('r', Color::Magenta),
        SegmentUse::Damaged => ('!', Color::Red),
        SegmentUse::Sealed | SegmentUse::RunPart if cell.is_main => (shade(['░', '▒', '▓', '█']), Color::Green),
        SegmentUse::Sealed | SegmentUse::RunPart => (shade(['.', ':', '+', '#']), Color::Yellow),
    }
}

/// `12.3M`, for places without room.
fn short_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "K", "M", "G", "T", "P"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 1000.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{amount:.1}{}", UNITS[unit]) }
}
