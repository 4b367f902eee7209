//! What nobody asks for: ageing, ports that go and come back, looking into namespaces.

use std::{
    io,
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc, Weak,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{losses::Losses, report, switch::Inner};
use crate::{
    bridge::PortId,
    names::NetnsRef,
    sys::{clock, epoll::EventFd},
    time::Timestamp,
};

/// Something that the housekeeper should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The device of this port is gone.
    Gone(PortId),
    /// A namespace got a name, or lost one.
    Names,
    /// The switch ends.
    Stop,
}

/// Its threads; they end with it.
#[derive(Debug)]
pub(super) struct Housekeeping {
    notices: Sender<Notice>,
    stop: Arc<EventFd>,
    threads: Vec<JoinHandle<()>>,
}

impl Housekeeping {
    pub(super) fn start(
        inner: &Arc<Inner>,
        inbox: Receiver<Notice>,
        notices: Sender<Notice>,
    ) -> io::Result<Self> {
        let stop = Arc::new(EventFd::new()?);
        let keeper = Keeper {
            inner: Arc::downgrade(inner),
            inbox,
            losses: Losses::default(),
        };
        let keeper = thread::Builder::new()
            .name("housekeeping".to_owned())
            .spawn(move || keeper.run())?;
        let (sink, end) = (notices.clone(), Arc::clone(&stop));
        let watcher = thread::Builder::new()
            .name("netns-names".to_owned())
            .spawn(move || {
                if let Err(error) = watch_names(&sink, &end) {
                    // Still noticed once a second.
                    tracing::warn!(
                        "watch {}: {error}; a returning namespace is noticed a second late",
                        NetnsRef::DIRECTORY
                    );
                }
            })?;
        Ok(Self {
            notices,
            stop,
            threads: vec![keeper, watcher],
        })
    }
}

impl Drop for Housekeeping {
    fn drop(&mut self) {
        let _: Result<(), _> = self.notices.send(Notice::Stop);
        self.stop.notify();
        for thread in self.threads.drain(..) {
            // The last handle may be dropped by the housekeeper itself.
            if thread.thread().id() != thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

struct Keeper {
    inner: Weak<Inner>,
    inbox: Receiver<Notice>,
    losses: Losses,
}

impl Keeper {
    fn run(mut self) {
        let mut next_tick = clock::now() + TICK;
        // A name is made before its namespace is mounted on it, so look again soon for a while.
        let mut eager_until = Timestamp::ZERO;
        loop {
            let now = clock::now();
            let wait = if now < eager_until {
                EAGER
            } else {
                next_tick.since(now)
            };
            let notice = match self.inbox.recv_timeout(wait) {
                Ok(notice) => Some(notice),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Some(inner) = self.inner.upgrade() else {
                return;
            };
            let mut state = inner.state();
            let now = clock::now();
            match notice {
                Some(Notice::Stop) => return,
                Some(Notice::Gone(port)) => {
                    inner.port_gone(&mut state, port);
                    eager_until = now + EAGER_FOR;
                }
                Some(Notice::Names) => eager_until = now + EAGER_FOR,
                None => {}
            }
            let tick = now >= next_tick;
            if (tick || now < eager_until) && !inner.replug_returned(&mut state) {
                eager_until = Timestamp::ZERO;
            }
            if tick {
                next_tick = now + TICK;
                inner.age(&mut state);
                inner.keep_overlay(&mut state);
                let ports = state.ports.len();
                let due = ports.div_ceil(REFRESH_TICKS).max(REFRESHED);
                report::refresh(&inner, &mut state, due);
                self.losses.tell(&inner, &state);
            }
        }
    }
}

/// Tells of every name that comes or goes in `/run/netns`, also where that directory is yet to be
/// made.
fn watch_names(notices: &Sender<Notice>, stop: &EventFd) -> io::Result<()> {
    let directory = Path::new(NetnsRef::DIRECTORY);
    let parent = directory.parent().unwrap_or_else(|| Path::new("/"));
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_TO;
    let mut watched = inotify.add_watch(directory, flags).is_ok();
    if !watched {
        inotify.add_watch(parent, flags)?;
    }
    loop {
        let mut fds = [
            PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            result => result?,
        };
        if fds.get(1).and_then(PollFd::any).unwrap_or(false) {
            return Ok(());
        }
        // Which name it was does not matter: few ports wait, and each is looked at.
        drop(inotify.read_events());
        if !watched {
            watched = inotify.add_watch(directory, flags).is_ok();
        }
        if notices.send(Notice::Names).is_err() {
            return Ok(());
        }
    }
}

/// Ageing and everything else that has time.
const TICK: Duration = Duration::from_secs(1);
/// How soon to look again for a namespace that may come at any moment, and for how long.
const EAGER: Duration = Duration::from_millis(5);
const EAGER_FOR: Duration = Duration::from_secs(2);
/// Namespaces entered in one tick, at least: each costs some 60 microseconds.
const REFRESHED: usize = 16;
/// Ticks after which every namespace has been entered.
const REFRESH_TICKS: usize = 10;
