//! Values of the command line's options.

use std::{str::FromStr, time::Duration};

use clap::ValueEnum;
use ipnet::IpNet;

use crate::{
    config::{
        Accept, AtLimit, Cidr, Mode, OffloadMode, ParseCidrError,
        units::{parse_bytes, parse_duration},
    },
    control::api::FdbState,
    daemon::Pin,
    lesson::{Lang, System},
};

macro_rules! value_enum {
    ($(#[$doc:meta])* $name:ident => $target:ty { $($(#[$value_doc:meta])* $variant:ident => $value:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum $name {
            $($(#[$value_doc])* $variant),*
        }

        impl From<$name> for $target {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => $value),*
                }
            }
        }
    };
}

value_enum! {
    /// `on` or `off`.
    OnOff => bool {
        /// Yes
        On => true,
        /// No
        Off => false,
    }
}

impl From<OnOff> for OffloadMode {
    fn from(value: OnOff) -> Self {
        match value {
            OnOff::On => Self::On,
            OnOff::Off => Self::Off,
        }
    }
}

value_enum! {
    /// See [`Pin`].
    PinArg => Pin {
        /// While there is no VXLAN endpoint
        Auto => Pin::Auto,
        /// Always
        On => Pin::Always,
        /// Never
        Off => Pin::Never,
    }
}

value_enum! {
    /// See [`Lang`].
    LangArg => Lang {
        /// English
        En => Lang::En,
        /// Chinese
        Zh => Lang::Zh,
    }
}

value_enum! {
    /// See [`System`].
    SystemArg => System {
        /// This program
        Tapswitch => System::Tapswitch,
        /// The kernel's bridge, veth and vxlan devices
        Kernel => System::Kernel,
    }
}

value_enum! {
    /// See [`Mode`].
    ModeArg => Mode {
        /// Learns, and sends known unicast to its port only
        Switch => Mode::Switch,
        /// Learns nothing and repeats every frame
        Hub => Mode::Hub,
        /// Joins two ports like a cable
        Wire => Mode::Wire,
    }
}

value_enum! {
    /// See [`Accept`].
    AcceptArg => Accept {
        /// Those of known peers
        Peers => Accept::Peers,
        /// Anybody's
        Any => Accept::Any,
    }
}

value_enum! {
    /// See [`AtLimit`].
    AtLimitArg => AtLimit {
        /// The port with the most entries gives up its oldest one
        Fair => AtLimit::Fair,
        /// The address is not learned
        Refuse => AtLimit::Refuse,
    }
}

value_enum! {
    /// See [`FdbState`].
    StateArg => FdbState {
        /// From a frame
        Learned => FdbState::Learned,
        /// From a person
        Static => FdbState::Static,
        /// The address of a host port
        Local => FdbState::Local,
        /// From a control plane
        Control => FdbState::Control,
    }
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventKind {
    /// Ports that come, go or change their state
    Port,
    /// Addresses that are learned, move or age
    Fdb,
    /// Bridges that come, go or change
    Bridge,
    /// MTUs that change
    Mtu,
    /// Remote VTEPs that come, go or change
    Peer,
    /// The VXLAN endpoint
    Vtep,
    /// Frames that are lost, once a second for each place and reason
    Drops,
}

/// `auto` or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtuArg(pub Option<u32>);

impl FromStr for MtuArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let read = parse_mtu(text).map(|mtu| Self(Some(mtu)));
        read.map_err(|problem| format!("{problem}, or auto"))
    }
}

/// A number of bytes; whether it is an MTU is told with the object that it is for.
pub(super) fn parse_mtu(text: &str) -> Result<u32, String> {
    let read = parse_bytes(text, 1).and_then(|bytes| u32::try_from(bytes).ok());
    read.ok_or_else(|| "write a number of bytes such as 1450 or 9k".to_owned())
}

/// A number of microseconds, or a time with its unit.
pub(super) fn parse_poll(text: &str) -> Result<Duration, String> {
    let bare = text.parse::<u32>().ok();
    let read = match bare {
        Some(micros) => Some(Duration::from_micros(micros.into())),
        None => parse_duration(text)
            .ok()
            .filter(|&time| time <= LONGEST_POLL),
    };
    read.ok_or_else(|| {
        "write a number of microseconds such as 200, or a time such as 1ms; 0: none".to_owned()
    })
}

/// Longer is a worker that never sleeps.
const LONGEST_POLL: Duration = Duration::from_secs(3600);

/// A value, or the word `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrNone<T>(pub Option<T>);

pub(super) fn or_none<T, E>(
    read: impl Fn(&str) -> Result<T, E> + Clone,
) -> impl Fn(&str) -> Result<OrNone<T>, E> + Clone {
    move |text| match text {
        "none" => Ok(OrNone(None)),
        _ => read(text).map(|value| OrNone(Some(value))),
    }
}

pub(super) fn parse_cidr(text: &str) -> Result<IpNet, ParseCidrError> {
    text.parse().map(|Cidr(cidr)| cidr)
}

pub(super) fn parse_workers(text: &str) -> Result<usize, String> {
    let read = text.parse().ok().filter(|count| (1..=256).contains(count));
    read.ok_or_else(|| "write a number from 1 to 256".to_owned())
}
