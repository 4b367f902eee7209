//! What both TAP engines share: the control ioctls of a tun file, names, settings and errors.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use libc::{c_int, c_uint};

use super::{
    cause_text, checked, ethtool,
    ifreq::{Ifreq, IfreqCall, control_socket},
    netns::{NetnsError, NetnsFile},
};
use crate::{names::IfName, wire::MacAddr};

/// Why a TAP could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The device file did not open.
    #[error("open /dev/net/tun: {}; {}", cause_text(.cause), open_advice(.cause))]
    Open {
        /// What the kernel answered.
        cause: io::Error,
    },
    /// The device was not created.
    #[error("create tap {name:?}: {}; {}", cause_text(.cause), create_advice(.cause))]
    Create {
        /// The temporary name that was asked for.
        name: String,
        /// What the kernel answered.
        cause: io::Error,
    },
    /// The device was created and then refused a setting.
    #[error("{setting} of tap {name:?}: {}; {}", cause_text(.cause), setting_advice(.cause))]
    Setting {
        /// What was to be set.
        setting: &'static str,
        /// The temporary name of the device.
        name: String,
        /// What the kernel answered.
        cause: io::Error,
    },
}

impl TapError {
    /// What the kernel answered.
    pub fn cause(&self) -> &io::Error {
        match self {
            Self::Open { cause } | Self::Create { cause, .. } | Self::Setting { cause, .. } => {
                cause
            }
        }
    }
}

fn open_advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "run as root, or let your user read and write it (mode 0666 is usual)"
        }
        Some(libc::ENOENT) => "create it: mkdir -p /dev/net && mknod /dev/net/tun c 10 200",
        Some(libc::ENODEV | libc::ENXIO) => "load the kernel module: modprobe tun",
        Some(libc::EMFILE) => "raise the limit of open files (ulimit -n)",
        _ => "is it the character device 10:200?",
    }
}

fn create_advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM) => "run as root, grant CAP_NET_ADMIN, or enter a user namespace",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (ulimit -n)",
        Some(libc::EBUSY) => "every name that was tried is taken; remove stale tsw* devices",
        Some(libc::EINVAL) => "the kernel lacks TAP with IFF_VNET_HDR; try the simple engine",
        _ => "check `dmesg`",
    }
}

fn setting_advice(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => "give a unicast address that is not zero",
        Some(libc::EPERM) => "run as root or grant CAP_NET_ADMIN",
        _ => "check `dmesg`",
    }
}

/// What a new TAP is given before anybody can see it.
///
/// Not the length of its transmit queue: `SIOCSIFTXQLEN` asks for the machine's root (`dev_ioctl`),
/// and netlink only for the root of a user namespace, so that goes through [`crate::netlink`].
#[derive(Clone, Copy, Debug)]
pub struct TapOptions {
    /// The hardware address of the namespace's end; `None`: the kernel's random one.
    pub mac: Option<MacAddr>,
    /// The link speed that the device reports.
    pub speed_mbps: u32,
}

impl Default for TapOptions {
    fn default() -> Self {
        Self {
            mac: None,
            speed_mbps: 10_000,
        }
    }
}

/// Which unfinished frames may come out of a TAP, as the kernel accepted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AcceptedOffloads {
    /// Checksums left for us; the condition of everything else.
    pub csum: bool,
    /// TCP over IPv4 superframes.
    pub tso4: bool,
    /// TCP over IPv6 superframes.
    pub tso6: bool,
    /// TCP superframes that carry CWR.
    pub tso_ecn: bool,
    /// UDP superframes, over both families together (`set_offload` wants USO4 and USO6 as one).
    pub uso: bool,
}

impl AcceptedOffloads {
    /// No unfinished frames at all.
    pub const NONE: Self = Self {
        csum: false,
        tso4: false,
        tso6: false,
        tso_ecn: false,
        uso: false,
    };
    /// Everything that Linux 6.2 and later can do without tunnel offloads.
    pub const ALL: Self = Self {
        csum: true,
        tso4: true,
        tso6: true,
        tso_ecn: true,
        uso: true,
    };

    /// The argument of `TUNSETOFFLOAD`.
    fn mask(self) -> c_uint {
        let bit = |on: bool, bits| if on { bits } else { 0 };
        bit(self.csum, libc::TUN_F_CSUM)
            | bit(self.tso4, libc::TUN_F_TSO4)
            | bit(self.tso6, libc::TUN_F_TSO6)
            | bit(self.tso_ecn, libc::TUN_F_TSO_ECN)
            | bit(self.uso, libc::TUN_F_USO4 | libc::TUN_F_USO6)
    }

    /// What to ask for after `EINVAL`: USO came with Linux 6.2, the rest in older steps.
    pub(super) const FALLING: [Self; 5] = [
        Self::ALL,
        Self {
            uso: false,
            ..Self::ALL
        },
        Self {
            uso: false,
            tso_ecn: false,
            ..Self::ALL
        },
        Self {
            csum: true,
            ..Self::NONE
        },
        Self::NONE,
    ];
}

/// Whether `error`, from a TAP, says that the device is gone: its link or namespace was deleted
/// (`tun_get` finds no device: `EBADFD`). The file can only be closed.
pub fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

/// Whether `error`, from a TAP write, says that the link is administratively down
/// (`tun_get_user`: `EIO`). It may come back up.
pub fn is_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// The control ioctls of a file that is attached to a TAP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tun<'a>(BorrowedFd<'a>);

impl<'a> Tun<'a> {
    /// `fd` must be a tun file, which only the two TAP types of this room can promise.
    pub(super) fn new(fd: BorrowedFd<'a>) -> Self {
        Self(fd)
    }

    pub(super) fn set_offloads(self, offloads: AcceptedOffloads) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory.
        let returned = unsafe {
            libc::ioctl(
                self.0.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(offloads.mask()),
            )
        };
        checked(returned).map(drop)
    }

    pub(super) fn set_header_len(self, bytes: c_int) -> io::Result<()> {
        // SAFETY: TUNSETVNETHDRSZ reads one int, which lives until the call returns.
        let returned =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) };
        checked(returned).map(drop)
    }

    pub(super) fn set_carrier(self, on: bool) -> io::Result<()> {
        let on = c_int::from(on);
        // SAFETY: TUNSETCARRIER reads one int, which lives until the call returns.
        let returned =
            unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNSETCARRIER, &raw const on) };
        checked(returned).map(drop)
    }

    pub(super) fn set_mac(self, mac: MacAddr) -> io::Result<()> {
        let mut request = Ifreq::unnamed();
        request.set_mac(mac);
        request.call(self.0, IfreqCall::SetHwAddr)
    }

    pub(super) fn device_name(self) -> io::Result<String> {
        let mut request = Ifreq::unnamed();
        request.call(self.0, IfreqCall::TunGetIff)?;
        Ok(request.name())
    }

    pub(super) fn netns(self) -> Result<NetnsFile, NetnsError> {
        // SAFETY: TUNGETDEVNETNS takes no argument.
        let returned = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TUNGETDEVNETNS, 0) };
        let fd = checked(returned).map_err(|cause| NetnsError::OfDevice { cause })?;
        // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        NetnsFile::from_file(File::from(fd), "the namespace of the tap".to_owned())
    }

    /// Sets what must be set while the device is still in the namespace of the calling thread.
    pub(super) fn prepare(self, name: &IfName, options: &TapOptions) -> Result<u32, TapError> {
        let refused = |setting| {
            let name = name.as_str().to_owned();
            move |cause| TapError::Setting {
                setting,
                name,
                cause,
            }
        };
        if let Some(mac) = options.mac {
            self.set_mac(mac).map_err(refused("hardware address"))?;
        }
        let socket = control_socket().map_err(refused("control socket"))?;
        let mut request = Ifreq::named(name);
        request
            .call(socket.as_fd(), IfreqCall::GetIndex)
            .map_err(refused("index"))?;
        let index = request.index();
        // The speed is only a label: a kernel whose TAP has none to set is as good as any other.
        match ethtool::set_speed(socket.as_fd(), name, options.speed_mbps) {
            Err(cause) if cause.raw_os_error() != Some(libc::EOPNOTSUPP) => {
                return Err(refused("link speed")(cause));
            }
            _ => {}
        }
        Ok(index)
    }
}

/// Runs `create` with one temporary name after the other until the kernel takes one.
///
/// The names differ between processes and within one, but not between two process namespaces that
/// share a network namespace: `EBUSY` means that the name is taken, and the next is tried.
pub(super) fn with_temporary_name<T>(
    mut create: impl FnMut(&IfName) -> Result<T, TapError>,
) -> Result<(T, IfName), TapError> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let mut attempts = 16;
    loop {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed) & 0xff_ffff;
        let name = format!("tsw{:06x}{count:06x}", process::id() & 0xff_ffff);
        let name = IfName::new(&name).map_err(|error| TapError::Create {
            name,
            cause: io::Error::other(error),
        })?;
        attempts -= 1;
        match create(&name) {
            Err(error) if error.cause().raw_os_error() == Some(libc::EBUSY) && attempts > 0 => {}
            result => return result.map(|device| (device, name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_of_the_offload_probe_asks_for_less() {
        let masks = AcceptedOffloads::FALLING.map(AcceptedOffloads::mask);
        assert_eq!(masks, [0x6f, 0x0f, 0x07, 0x01, 0]);
    }

    #[test]
    fn a_refusal_names_operation_object_cause_and_next_step() {
        let error = TapError::Open {
            cause: io::Error::from_raw_os_error(libc::EACCES),
        };
        assert_eq!(
            error.to_string(),
            "open /dev/net/tun: permission denied; run as root, or let your user read and write \
             it (mode 0666 is usual)"
        );
    }

    #[test]
    fn a_busy_name_is_followed_by_another_one() {
        let mut seen = Vec::new();
        let (device, name) = with_temporary_name(|name| {
            seen.push(name.clone());
            if seen.len() < 3 {
                let cause = io::Error::from_raw_os_error(libc::EBUSY);
                let name = name.to_string();
                return Err(TapError::Create { name, cause });
            }
            Ok(5)
        })
        .unwrap();
        assert_eq!((device, &name), (5, &seen[2]));
        assert!(seen[0] != seen[1] && seen[1] != seen[2]);
    }
}
