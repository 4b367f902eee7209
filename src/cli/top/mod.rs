//! `tapswitch top`: a screen that stays, and shows what the switch does now.
//!
//! [`model`] is what is known and what keys do to it, [`view`] draws it; both are pure. Here are the
//! terminal and the threads that bring news: counters, events, keys and signals.

use std::{
    future,
    io::{self, IsTerminal},
    ops::ControlFlow,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use ratatui::crossterm::{
    event::{self, Event as TerminalEvent, KeyEventKind},
    terminal::disable_raw_mode,
};

mod flows;
mod model;
mod rows;
#[cfg(test)]
mod tests;
mod view;

use self::model::{Model, News};
use super::{CliError, SHORTEST_INTERVAL, interrupt::Interrupt};
use crate::{
    control::{
        api::{Request, Response, StatsInfo, WhyRequest},
        client::{Client, ClientError},
    },
    sys::clock,
};

/// Shows the switch of `client` until somebody has seen enough.
pub(super) fn run(client: &Client, interval: Duration) -> Result<(), CliError> {
    if !io::stdout().is_terminal() {
        return Err(CliError::Usage(
            "show the screen of top: standard output is no terminal; read the counters with: \
             tapswitch stats --watch"
                .to_owned(),
        ));
    }
    // Before the screen is taken: an error is read where it stays.
    let first = counters(client)?;
    let (news, arrivals) = channel();
    let end = news.clone();
    Interrupt::tell(move || end_by(&end))?;
    let screen = Screen::take()?;
    for bring in [bring_keys, bring_counters, bring_events, bring_hang_up] {
        // What they say would be written across the screen.
        let (client, news) = (Client::new(client.path()), news.clone());
        let interval = interval.max(SHORTEST_INTERVAL);
        thread::spawn(move || bring(&client, interval, &news));
    }
    let wants_flows = Arc::new(AtomicBool::new(false));
    let (client, wanted) = (Client::new(client.path()), Arc::clone(&wants_flows));
    thread::spawn(move || bring_flows(&client, interval.max(SHORTEST_INTERVAL), &wanted, &news));
    show(screen, Model::new(first, clock::unix_time()), |model| {
        wants_flows.store(model.wants_flows(), Ordering::Relaxed);
        arrivals.recv().ok()
    })
}

/// Draws after every piece of news, until one says that it is enough.
fn show(
    mut screen: Screen,
    mut model: Model,
    mut next: impl FnMut(&Model) -> Option<News>,
) -> Result<(), CliError> {
    loop {
        screen.0.draw(|frame| view::draw(frame, &mut model))?;
        let Some(news) = next(&model) else {
            return Ok(());
        };
        if model.take(news, clock::unix_time()).is_break() {
            return Ok(());
        }
    }
}

/// The terminal in raw mode with another screen. It is given back when this goes, and by the hook
/// that ratatui sets when something panics.
struct Screen(ratatui::DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        // What has been done before an error is undone.
        ratatui::try_init()
            .map(Self)
            .inspect_err(|_| ratatui::restore())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.0.show_cursor());
        // A terminal that is gone takes no complaint either.
        drop(ratatui::try_restore());
    }
}

/// Asks for the end, and sees to it: a terminal that nobody reads may hold up the screen for ever.
#[expect(
    clippy::exit,
    reason = "the thread that could return waits for the terminal"
)]
fn end_by(news: &Sender<News>) {
    drop(news.send(News::End));
    thread::spawn(|| {
        thread::sleep(LAST_WORDS);
        // The rest of the screen would have to be written.
        drop(disable_raw_mode());
        std::process::exit(1);
    });
}

fn counters(client: &Client) -> Result<StatsInfo, ClientError> {
    match client.request(&Request::Counters)? {
        Response::Stats(stats) => Ok(stats),
        _ => Err(client.unexpected()),
    }
}

fn bring_counters(client: &Client, interval: Duration, news: &Sender<News>) {
    loop {
        thread::sleep(interval);
        let told = match counters(client) {
            Ok(stats) => News::Counters(Box::new(stats)),
            Err(error) => News::Silence(error.to_string()),
        };
        if news.send(told).is_err() {
            return;
        }
    }
}

/// Asks for flows only while somebody looks at them.
fn bring_flows(client: &Client, interval: Duration, wanted: &AtomicBool, news: &Sender<News>) {
    let request = Request::Why(WhyRequest {
        last_s: Some(FLOWS_FOR.max(2.0 * interval.as_secs_f64())),
        ..WhyRequest::default()
    });
    loop {
        if wanted.load(Ordering::Relaxed)
            // That the daemon is away is told by the thread that asks for counters.
            && let Ok(Response::Why(report)) = client.request(&request)
            && news.send(News::Flows(Box::new(report))).is_err()
        {
            return;
        }
        thread::sleep(interval);
    }
}

/// Seconds for which a flow that has ended is shown.
const FLOWS_FOR: f64 = 10.0;

fn bring_events(client: &Client, interval: Duration, news: &Sender<News>) {
    loop {
        let mut is_read = true;
        let ended = client.events(future::pending(), |event| {
            is_read = news.send(News::Event(event)).is_ok();
            match is_read {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        if !is_read {
            return;
        }
        // That the daemon is away is told by the thread that asks for counters.
        drop(ended);
        thread::sleep(interval);
    }
}

fn bring_keys(_: &Client, _: Duration, news: &Sender<News>) {
    loop {
        let told = match event::read() {
            Ok(TerminalEvent::Key(key)) if key.kind != KeyEventKind::Release => {
                News::Key(key.code, key.modifiers)
            }
            Ok(TerminalEvent::Resize(..)) => News::Resized,
            Ok(_) => continue,
            Err(_) => News::End,
        };
        let is_end = matches!(told, News::End);
        if news.send(told).is_err() || is_end {
            return;
        }
    }
}

/// The end of the terminal. Who reads keys does not see it, and a signal need not come: a program
/// that was started with nohup, or after its shell had gone, gets none.
fn bring_hang_up(_: &Client, _: Duration, news: &Sender<News>) {
    let terminal = io::stdout();
    loop {
        // Nothing is waited for but what is always told.
        let mut polled = [PollFd::new(terminal.as_fd(), PollFlags::empty())];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return end_by(news),
            Err(_) => return,
        }
    }
}

/// How long it may take to give the terminal back.
const LAST_WORDS: Duration = Duration::from_secs(2);
