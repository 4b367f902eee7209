//! Two nodes with two pods each, a server of the page, and a browser that looks at it.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::driver::Browser;
use crate::common::{Daemon, Netns, command, ip, wait_until};

pub(crate) const TOKEN: &str = "correct-horse-battery-staple";

/// Everything that runs. Pods are A and B on node 1, C and D on node 2, with 192.0.2.1 to .4.
pub(crate) struct World {
    pub(crate) browser: Browser,
    pub(crate) server: Server,
    pub(crate) nodes: [Daemon; 2],
    pods: Vec<Netns>,
    _machines: [Netns; 2],
}

impl World {
    pub(crate) fn build() -> Self {
        let machines = ["node1", "node2"].map(Netns::named);
        ip("link add u1 netns node1 type veth peer name u2 netns node2");
        for (number, machine) in (1..).zip(&machines) {
            quieten(machine);
            machine.ip(&format!("addr add 198.51.100.{number}/24 dev u{number}"));
            machine.ip(&format!("link set u{number} up"));
        }
        let pods = ["A", "B", "C", "D"].map(|pod| Netns::named(&format!("ns{pod}")));
        pods.iter().for_each(quieten);
        let nodes = [
            config(1, 2, [("A", 1), ("B", 2)]),
            config(2, 1, [("C", 3), ("D", 4)]),
        ];
        let nodes = nodes.map(|config| Daemon::start(&config));
        for pod in &pods {
            // They do not ask again by themselves.
            let file = "/proc/sys/net/ipv4/neigh/eth0/delay_first_probe_time";
            pod.run(|| fs::write(file, "3600")).unwrap();
        }
        let token = "/run/token";
        fs::write(token, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(token, Permissions::from_mode(0o600)).unwrap();
        let places = ["node1", "node2"].into_iter().zip(&nodes);
        let nodes_of: Vec<_> = places.map(|(name, node)| (name, node.socket())).collect();
        let server = Server::start(&nodes_of, "127.0.0.1:0", Some(token));
        Self {
            browser: Browser::start(),
            server,
            nodes,
            pods: pods.into(),
            _machines: machines,
        }
    }

    /// Opens the page afresh, in English and light, and waits until it is live.
    pub(crate) fn open(&self) -> &Browser {
        self.open_at("?lang=en&theme=light")
    }

    pub(crate) fn open_at(&self, query: &str) -> &Browser {
        let Self {
            browser, server, ..
        } = self;
        // What the last test said, or an earlier page while it went away, is not this page's.
        browser.open("about:blank");
        browser.complaints();
        browser.open(&format!("{}{query}", server.url));
        browser.wait("document.querySelector('#status.well')");
        browser.wait("document.querySelectorAll('.port').length === 4");
        browser.run(WATCH);
        browser
    }

    /// The pod of that letter.
    pub(crate) fn pod(&self, letter: char) -> &Netns {
        let number = u32::from(letter) - u32::from('A');
        &self.pods[usize::try_from(number).unwrap()]
    }

    /// Pings once, from pod to pod, as if they had never heard of each other.
    #[track_caller]
    pub(crate) fn ping(&self, from: char, to: char) {
        self.pod(from).ip("neigh flush dev eth0");
        assert!(self.try_ping(from, to), "{from} pings {to}");
    }

    pub(crate) fn try_ping(&self, from: char, to: char) -> bool {
        let number = u32::from(to) - u32::from('A') + 1;
        let to = format!("192.0.2.{number}");
        let output = self.pod(from).exec(&["ping", "-c", "1", "-W", "1", &to]);
        output.status.success()
    }
}

/// So that only what a test sends is on the lines.
fn quieten(netns: &Netns) {
    for file in ["all", "default"] {
        let file = format!("/proc/sys/net/ipv6/conf/{file}/disable_ipv6");
        netns.run(|| drop(fs::write(file, "1")));
    }
}

fn config(number: u8, other: u8, pods: [(&str, u8); 2]) -> String {
    let mut text = format!(
        "[vtep]\nlocal = \"198.51.100.{number}\"\nnetns = \"node{number}\"\n\
         [[bridge]]\nname = \"br0\"\nvni = 42\npeers = [\"198.51.100.{other}\"]\n"
    );
    for (letter, host) in pods {
        text += &format!(
            "[[bridge.port]]\nname = \"pod{letter}\"\nnetns = \"ns{letter}\"\n\
             addresses = [\"192.0.2.{host}/24\"]\nmac = \"02:00:00:00:00:0{host}\"\n"
        );
    }
    text
}

/// `tapswitch web`.
pub(crate) struct Server {
    child: Child,
    /// Where the page is, with a slash at its end.
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(nodes: &[(&str, &Path)], listen: &str, token: Option<&str>) -> Self {
        let mut program: Command = command(env!("CARGO_BIN_EXE_tapswitch"));
        program.args(["web", "--listen", listen]);
        for (name, socket) in nodes {
            program.args(["--node", &format!("{name}={}", socket.display())]);
        }
        if let Some(token) = token {
            program.args(["--token", token]);
        }
        let mut child = program
            .env("TAPSWITCH_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim_end().strip_prefix("live page: ");
        let url = url.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, url }
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> String {
        let address = self.url.strip_prefix("http://").unwrap();
        address.trim_end_matches('/').to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), Signal::SIGTERM).ok();
        let mut ends = || matches!(self.child.try_wait(), Ok(Some(_)));
        if std::thread::panicking() {
            drop(self.child.kill());
            drop(self.child.wait());
        } else {
            wait_until("the server ends", Duration::from_secs(10), &mut ends);
        }
    }
}

/// Writes down where each envelope is at each picture that the browser paints.
const WATCH: &str = "
    window.seen = [];
    const look = () => {
      for (const sprite of document.querySelectorAll('.sprite')) {
        if (sprite.style.display === 'none') continue;
        const box = sprite.querySelector('.envelope').getBoundingClientRect();
        window.seen.push({
          scene: sprite.dataset.scene,
          kind: sprite.classList[1],
          label: sprite.querySelector('.label')?.textContent ?? '',
          wrapped: sprite.classList.contains('wrapped'),
          falling: sprite.classList.contains('falling'),
          x: box.x + box.width / 2,
          y: box.y + box.height / 2,
        });
      }
      if (window.seen.length > 50000) window.seen.splice(0, 10000);
      requestAnimationFrame(look);
    };
    look();
    window.middle = (selector) => {
      const box = document.querySelector(selector).getBoundingClientRect();
      return {x: box.x + box.width / 2, y: box.y + box.height / 2};
    };
    window.near = (sprite, selector, slack) => {
      const box = document.querySelector(selector).getBoundingClientRect();
      return sprite.x > box.left - slack && sprite.x < box.right + slack
        && sprite.y > box.top - slack && sprite.y < box.bottom + slack;
    };";
