//! What the screen shows, and what keys do to it. Pure: time comes with the news.

use std::{
    collections::{HashMap, VecDeque},
    ops::ControlFlow,
};

use ratatui::crossterm::event::{KeyCode, KeyModifiers};

use super::flows::Flows;
use crate::{
    cli::{output::line, rates::Rates},
    control::api::{Event, StatsInfo, WhyReport},
};

/// What can happen.
#[derive(Debug)]
pub(super) enum News {
    /// The switch has told its counters.
    Counters(Box<StatsInfo>),
    /// Its flight recorders have told of the last frames.
    Flows(Box<WhyReport>),
    /// It has not, and this is why.
    Silence(String),
    /// Something happened in it.
    Event(Event),
    /// Somebody pressed a key.
    Key(KeyCode, KeyModifiers),
    /// The terminal has another size.
    Resized,
    /// A signal, or the terminal is gone.
    End,
}

/// Everything the screen depends on, but for its size.
#[derive(Debug)]
pub(super) struct Model {
    live: Known,
    /// What stays on the screen while it is paused.
    frozen: Option<Box<Known>>,
    pub(super) view: View,
    pub(super) sort: Sort,
    /// Only places that have this in their name.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) is_typing: bool,
    /// The row that the cursor is in.
    pub(super) selected: usize,
    /// How many rows there were when they were last drawn.
    pub(super) rows: usize,
}

/// What is known of the switch.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) stats: StatsInfo,
    pub(super) rates: Rates,
    pub(super) flows: Flows,
    /// Bits a second of each place, the newest last; see [`super::rows::keys`].
    pub(super) history: HashMap<String, VecDeque<u64>>,
    /// The newest last.
    pub(super) drops: VecDeque<String>,
    /// Likewise.
    pub(super) events: VecDeque<String>,
    /// Why there are no counters.
    pub(super) silence: Option<String>,
    /// The wall clock.
    pub(super) now: f64,
}

/// What is in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Places,
    Drops,
    Flows,
    Help,
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Bits,
    Frames,
    Drops,
    Name,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bits => "bits",
            Self::Frames => "frames",
            Self::Drops => "drops",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Bits => Self::Frames,
            Self::Frames => Self::Drops,
            Self::Drops => Self::Name,
            Self::Name => Self::Bits,
        }
    }
}

impl Model {
    /// The first look.
    pub(super) fn new(stats: StatsInfo, now: f64) -> Self {
        let mut live = Known::default();
        live.look(stats);
        live.now = now;
        Self {
            live,
            frozen: None,
            view: View::Places,
            sort: Sort::Bits,
            filter: String::new(),
            is_typing: false,
            selected: 0,
            rows: 0,
        }
    }

    /// What is to be seen.
    pub(super) fn shown(&self) -> &Known {
        self.frozen.as_deref().unwrap_or(&self.live)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    /// Takes note of `news`, which came at `now` of the wall clock; breaks when that is the end.
    pub(super) fn take(&mut self, news: News, now: f64) -> ControlFlow<()> {
        self.live.now = now;
        match news {
            News::Counters(stats) => self.live.look(*stats),
            News::Flows(report) => self.live.flows.look(&report, now),
            News::Silence(reason) => self.live.silence = Some(reason),
            News::Event(event) => self.live.hear(&event),
            News::Key(KeyCode::Char('c'), KeyModifiers::CONTROL) | News::End => {
                return ControlFlow::Break(());
            }
            News::Key(key, _) if self.is_typing => self.type_filter(key),
            News::Key(key, _) => return self.press(key),
            News::Resized => {}
        }
        ControlFlow::Continue(())
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) if self.filter.len() < LONGEST_FILTER => {
                self.filter.push(character);
            }
            _ => {}
        }
        self.selected = 0;
    }

    fn press(&mut self, key: KeyCode) -> ControlFlow<()> {
        let last = self.rows.saturating_sub(1);
        match key {
            KeyCode::Char('q') => return ControlFlow::Break(()),
            KeyCode::Esc if self.view != View::Places => self.look_at(View::Places),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('p' | ' ') => {
                self.frozen = match self.frozen.take() {
                    Some(_) => None,
                    None => Some(Box::new(self.live.clone())),
                };
            }
            KeyCode::Char('d') => self.look_at(View::Drops),
            KeyCode::Char('f') => self.look_at(View::Flows),
            KeyCode::Char('?' | 'h') => self.look_at(View::Help),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.selected = last.min(self.selected + 1),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(PAGE),
            KeyCode::PageDown => self.selected = last.min(self.selected + PAGE),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// Whether somebody wants to know of flows: it costs the switch something to tell.
    pub(super) fn wants_flows(&self) -> bool {
        self.view == View::Flows && !self.is_paused()
    }

    /// There, or back if that is what is seen already.
    fn look_at(&mut self, view: View) {
        self.view = match self.view == view {
            true => View::Places,
            false => view,
        };
        self.selected = 0;
    }
}

impl Known {
    fn look(&mut self, stats: StatsInfo) {
        self.rates = Rates::between(Some(&self.stats), &stats);
        self.stats = stats;
        self.silence = None;
        if self.rates.seconds.is_none() {
            self.history.clear();
            return;
        }
        let mut history = std::mem::take(&mut self.history);
        let flows = self.rates.ports.iter().chain(&self.rates.peers);
        for (key, flow) in super::rows::keys(&self.stats).zip(flows) {
            // Who is not there any more is forgotten with the old map.
            let mut past = history.remove(&key).unwrap_or_default();
            if past.len() == HISTORY {
                past.pop_front();
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is not negative, and its fraction does not show"
            )]
            past.push_back(flow.bits() as u64);
            self.history.insert(key, past);
        }
    }

    fn hear(&mut self, event: &Event) {
        let line = line(event);
        let (list, line) = match event {
            // The list has its title, and its lines have little room.
            Event::Drops { bridge, .. } => {
                let line = line.replacen(" drops ", " ", 1).replacen(" port ", " ", 1);
                let on = bridge.as_ref().map(|bridge| format!(" on {bridge}:"));
                let short = on.map(|on| line.replacen(&on, ":", 1));
                (&mut self.drops, short.unwrap_or(line))
            }
            _ => (&mut self.events, line),
        };
        if list.len() == KEPT {
            list.pop_front();
        }
        list.push_back(line);
    }
}

/// Looks that a sparkline can show.
const HISTORY: usize = 64;
/// Lines that are remembered.
const KEPT: usize = 64;
const LONGEST_FILTER: usize = 40;
/// Rows that a page key moves by.
const PAGE: usize = 10;
