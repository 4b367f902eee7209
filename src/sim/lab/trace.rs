//! What would become of a frame in a lab.

use super::Lab;
use crate::{
    bridge::{PeerId, PortId},
    rehearsal::{Entrance, Names, Rehearsal, Story, rehearse, story},
    wire::VirtioNetHdr,
};

impl Lab {
    /// Plays what would become of `frame` if the host at `port` sent it now; nothing is sent,
    /// learned or counted.
    pub fn rehearse(&self, port: PortId, frame: &[u8]) -> Rehearsal {
        rehearse(self.now, &self.topology, true, entrance(port, frame))
    }

    /// The same, told step by step.
    ///
    /// ```
    /// use tapswitch::sim::{Lab, frames};
    ///
    /// let (lab, [a, _b]) = Lab::switch(["podA", "podB"]);
    /// let story = lab.trace(a, &frames::arp_request(1, 2));
    /// assert_eq!(story.frame, "arp who-has 192.0.2.2 tell 192.0.2.1, in 42 bytes");
    /// let steps: Vec<_> = story.steps.iter().map(|step| step.step).collect();
    /// assert_eq!(steps, ["parse", "source", "learn", "look-up", "flood", "offload", "mtu", "deliver"]);
    /// assert_eq!(lab.frames(), 0);
    /// ```
    pub fn trace(&self, port: PortId, frame: &[u8]) -> Story {
        let rehearsal = self.rehearse(port, frame);
        let entrance = entrance(port, frame);
        story(self.now, &self.topology, self, entrance, &rehearsal)
    }
}

fn entrance(port: PortId, frame: &[u8]) -> Entrance<'_> {
    let header = VirtioNetHdr::none();
    Entrance::Port {
        port,
        header,
        frame,
    }
}

impl Names for Lab {
    fn port(&self, port: PortId) -> String {
        self.name(port).to_owned()
    }

    fn peer(&self, peer: PeerId) -> String {
        let vtep = self.vtep.as_ref();
        let known = vtep.and_then(|vtep| vtep.address_of(peer));
        known.map_or_else(|| format!("peer {peer}"), |to| to.ip().to_string())
    }

    fn bridge(&self, bridge: usize) -> String {
        let known = self.bridges.get(bridge);
        known.map_or_else(String::new, |(spec, _)| spec.name.to_string())
    }
}
