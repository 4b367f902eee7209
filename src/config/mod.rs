//! Settings: what people write, checked, and what it means.

pub mod spec;

pub use self::spec::{
    AtLimit, BridgeSpec, Mode, OffloadMode, PortFlagsSpec, PortSpec, ReservedMask, RouteSpec,
    StaticSpec, SwitchSpec,
};
