//! Where FDB entries come from, told.

use std::collections::BTreeMap;

use super::{
    history::{Change, Page, Subject},
    state::State,
    switch::Inner,
};
use crate::{
    bridge::FdbKey,
    control::api::{ApiError, FdbChange, FdbInfo, FdbState, FdbStory},
    names::Name,
    sys::clock,
    wire::MacAddr,
};

impl Inner {
    /// What happened to the entries of `mac`, one story for each bridge and VLAN where it is or was.
    pub(super) fn fdb_story(
        &self,
        state: &State,
        bridge: Option<&Name>,
        mac: MacAddr,
        vlan: Option<u16>,
    ) -> Result<Vec<FdbStory>, ApiError> {
        let operation = format!("fdb why {mac}");
        if let Some(bridge) = bridge {
            state.known_bridge(&operation, bridge)?;
        }
        if mac.is_group() {
            return Err(ApiError::invalid(format!(
                "{operation}: it is a group address; nobody can be a sender of this address, and \
                 the FDB holds none"
            )));
        }
        let mut subjects: BTreeMap<(Name, FdbKey), (Page, Option<FdbInfo>)> = BTreeMap::new();
        for (subject, page) in self.events.history.of(mac, vlan) {
            subjects.entry(subject).or_default().0 = page;
        }
        for home in &state.bridges {
            for (key, entry) in home.fdb.entries() {
                let is_it = key.mac() == mac && vlan.is_none_or(|vlan| vlan == key.vlan());
                if is_it && self.is_alive(home, &entry) {
                    let subject: Subject = (home.spec.name.clone(), key);
                    let info = self.fdb_info(state, home, key, &entry);
                    subjects.entry(subject).or_default().1 = Some(info);
                }
            }
        }
        subjects.retain(|(of, _), _| bridge.is_none_or(|bridge| bridge == of));
        if subjects.is_empty() {
            let lost = match self.events.history.lost_news() {
                0 => String::new(),
                lost => format!(" ({lost} news of addresses were lost under load)"),
            };
            return Err(ApiError::not_found(format!(
                "{operation}: no fdb has it, and nothing is remembered of it{lost}: no frame with this \
                 source has come in, or it is forgotten; see: tapswitch why {mac}"
            )));
        }
        let stories = subjects.into_iter();
        Ok(stories
            .map(|((bridge, key), (page, entry))| self.story(state, bridge, key, page, entry))
            .collect())
    }

    fn story(
        &self,
        state: &State,
        bridge: Name,
        key: FdbKey,
        page: Page,
        entry: Option<FdbInfo>,
    ) -> FdbStory {
        let hint = hint(state, &bridge, &page, entry.as_ref());
        FdbStory {
            bridge,
            mac: key.mac(),
            vlan: key.vlan(),
            entry,
            changes: page
                .changes
                .iter()
                .map(|change| self.change(change))
                .collect(),
            forgotten: page.forgotten,
            lost_news: self.events.history.lost_news(),
            hint,
        }
    }

    fn change(&self, change: &Change) -> FdbChange {
        let age = self.clock.now().since(change.time).as_secs_f64();
        let (place, old) = (change.place.clone(), change.old.clone());
        FdbChange {
            time: clock::unix_time() - age,
            age_s: age,
            count: change.count,
            change: change.what.clone(),
            port: place.port,
            remote: place.remote,
            old_port: old.port,
            old_remote: old.remote,
            frame: change.frame_in_words(),
            cause: change.cause.map(str::to_owned),
        }
    }
}

/// What must have happened, though nothing says so.
fn hint(state: &State, bridge: &Name, page: &Page, entry: Option<&FdbInfo>) -> Option<String> {
    let last = page.changes.back().map(|change| change.what.as_str());
    let is_gone = matches!(last, Some("aged" | "flushed" | "deleted"));
    match (entry, last) {
        (Some(entry), _) if entry.state == FdbState::Local => {
            Some("it is the address of a port of this host, as long as that is there".to_owned())
        }
        (Some(entry), _) if entry.state == FdbState::Control => {
            Some("a control plane told of it".to_owned())
        }
        (Some(entry), None) if entry.state == FdbState::Static => {
            Some("it is in the settings".to_owned())
        }
        (Some(_), None) => {
            Some("how it came about is forgotten: too many other addresses have changed".to_owned())
        }
        (None, Some("limit")) => Some(
            "it was not learned, for the fdb is full: tapswitch bridge set BRIDGE --fdb-limit N"
                .replace("BRIDGE", bridge.as_str()),
        ),
        (None, Some(_)) if !is_gone => {
            let evicted = state
                .bridge(bridge)
                .map_or(0, |home| home.fdb.counters().evicted);
            Some(match evicted {
                0 => "its lifetime is over".to_owned(),
                evicted => format!(
                    "its lifetime is over, or its place went to another port's address: the fdb was \
                     full, which has cost {evicted} entries"
                ),
            })
        }
        _ => None,
    }
}
