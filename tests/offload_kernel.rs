//! Segmentation against the kernel's own: whatever superframe goes into a kernel bridge through a
//! TAP with all offloads comes out of a TAP without any as frames that the kernel cut, and ours must
//! be the same bytes. Likewise, what we joined the kernel must cut into what it was, and what a vxlan
//! device leaves undone we must recognise.
//!
//! Needs root or unprivileged user namespaces, /dev/net/tun and `ip`; ignored without them.
//! `TAPSWITCH_OFFLOAD_CASES` sets the number of cases, `TAPSWITCH_OFFLOAD_SEED` repeats a run.
//!
//! Where we differ on purpose is in [`Difference`]; every other difference fails.

mod superframe;
#[path = "offload_kernel/tunnel.rs"]
mod tunnel;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    os::fd::AsFd,
    path::Path,
    process::{Command, ExitCode},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    unistd::{Uid, getgid, getuid},
};
use superframe::{
    Noise, Superframe,
    joiner::{cut, finished, from_port, joined},
    recipe, whole,
};
use tapswitch::{
    offload::{self, BadOffload, Mark, Segments},
    wire::{GsoType, VirtioNetHdr},
};
use tunnel::Tunnel;
use zerocopy::IntoBytes;

/// Where we knowingly do something else than the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// The kernel sends 0xffff for a TCP checksum that comes out as 0 (skb_checksum_help, for all
    /// protocols; tcp_gso_segment does not). To a receiver both are the same.
    ZeroChecksum,
    /// The kernel takes a superframe for one by the least possible header length, and loses it if
    /// its payload turns out to fit one segment. We send that segment.
    FitsOneSegment,
    /// We bound the cost of one superframe, the kernel its memory only.
    TooExpensive,
    /// We refuse what the kernel does not look at, in a damaged frame.
    Stricter,
}

/// A private network: two TAPs in a kernel bridge.
struct Wire {
    offloading: fs::File,
    plain: fs::File,
    sentinels: u32,
}

/// Frames that wait for us to read them; more are lost.
const QUEUE_LEN: usize = 10_000;

/// How the kernel answered one write.
type Answer = Result<Vec<Vec<u8>>, io::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let wire = if arguments.list {
        Err("only listing".to_owned())
    } else {
        // No threads yet: unshare moves only the calling one.
        Wire::new()
    };
    if let (false, Err(reason)) = (arguments.list, &wire) {
        eprintln!("offload_kernel: ignored: {reason}");
    }
    let ignored = wire.is_err() && !arguments.list;
    let wire = Arc::new(Mutex::new(wire));
    let trial = |name: &'static str, test: fn(&mut Wire) -> Result<(), Failed>| {
        let wire = Arc::clone(&wire);
        Trial::test(name, move || match &mut *wire.lock()? {
            Ok(wire) => test(wire),
            Err(reason) => Err(reason.clone().into()),
        })
        .with_ignored_flag(ignored)
    };
    let trials = vec![
        trial("superframes_are_cut_as_the_kernel_cuts_them", superframes),
        trial("what_passes_the_check_the_kernel_accepts", damaged),
        trial("what_was_joined_the_kernel_cuts_back", joined_frames),
        Trial::ignorable_test("what_a_vxlan_device_leaves_undone_is_recognised", || {
            match Tunnel::supported() {
                Err(reason) => Ok(Completion::ignored_with(reason)),
                Ok(()) => tunnelled().map(|()| Completion::Completed),
            }
        })
        .with_ignored_flag(ignored),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn superframes(wire: &mut Wire) -> Result<(), Failed> {
    campaign(wire, "superframes", |noise| {
        let spec = random(noise);
        let room = noise.one_in(3).then(|| 1 + noise.below(1400));
        Case {
            header: spec.header(),
            frame: spec.frame(),
            limit: room.map(|room| spec.headers() + usize::try_from(room).unwrap()),
            is_damaged: false,
            text: format!("{spec:?}"),
        }
    })
}

fn damaged(wire: &mut Wire) -> Result<(), Failed> {
    campaign(wire, "damaged", |noise| {
        let mut spec = random(noise);
        if spec.v6 && noise.one_in(20) {
            // A fragment and an authentication header, behind which nobody segments.
            spec.extensions = vec![(if noise.one_in(2) { 44 } else { 51 }, 0)];
        }
        let mut frame = spec.frame();
        let mut header = [0; VirtioNetHdr::LEN];
        header.copy_from_slice(spec.header().as_bytes());
        match noise.below(4) {
            0 => {
                let at = usize::try_from(noise.below(10)).unwrap();
                // hdr_len is the caller's to repair, see `exact_hdr_len`.
                if !(2..4).contains(&at) {
                    header[at] = u8::try_from(noise.below(256)).unwrap();
                }
            }
            1 => {
                let fields = [(0, 1), (1, 4), (4, 0), (5, 0), (6, 20), (8, 6), (8, 16)];
                let (at, value) = fields[usize::try_from(noise.below(7)).unwrap()];
                header[at] = value;
            }
            // A frame that ends inside its tags is lost in skb_vlan_untag, offloads or not.
            2 => frame.truncate(22 + usize::try_from(noise.below(150)).unwrap()),
            _ => {
                // Somewhere in the headers, but not in the addresses that the bridge looks at.
                let at = 12 + usize::try_from(noise.below(120)).unwrap();
                if let Some(byte) = frame.get_mut(at) {
                    *byte = u8::try_from(noise.below(256)).unwrap();
                }
            }
        }
        let mut header = VirtioNetHdr::read(&header).unwrap();
        header.set_hdr_len(offload::exact_hdr_len(&header, &frame).unwrap_or(0));
        Case {
            header,
            frame,
            limit: None,
            is_damaged: true,
            text: format!("{spec:?}"),
        }
    })
}

/// Joins random lists of frames. Of what came of it, every superframe goes to the kernel, which must
/// give back the frames that went in.
fn joined_frames(wire: &mut Wire) -> Result<(), Failed> {
    let (lists, seed) = settings("joined");
    let mut seeds = Noise(seed);
    let (mut superframes, mut frames) = (0, 0);
    for number in 0..lists {
        let recipe = random_recipe(&mut Noise(seeds.next()));
        let inputs = recipe::frames(&recipe);
        let mut expected = finished(&inputs, from_port).into_iter();
        for output in joined(&inputs, from_port) {
            let blame = |what: String| {
                let header = output.header;
                Failed::from(format!(
                    "list {number} of seed {seed}: {what}\n{header:?}\n{recipe:?}"
                ))
            };
            let count = cut(&output.header, &output.frame).len();
            let alone: Vec<_> = expected.by_ref().take(count).collect();
            if output.count == 1 {
                continue;
            }
            let theirs = wire.cut(&output.header, &output.frame).map_err(blame)?;
            if !theirs.as_ref().is_ok_and(|theirs| *theirs == alone) {
                return Err(blame(describe(&alone, &theirs)));
            }
            superframes += 1;
            frames += count;
        }
    }
    eprintln!("joined: {frames} frames in {superframes} superframes, the same after the kernel");
    Ok(())
}

/// Random frames and superframes go through a kernel's vxlan device, and lose their headers there.
fn tunnelled() -> Result<(), Failed> {
    let mut tunnel = Tunnel::new()?;
    let (cases, seed) = settings("tunnelled");
    let mut seeds = Noise(seed);
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for number in 0..cases {
        let mut noise = Noise(seeds.next());
        let mut spec = Superframe {
            extensions: vec![],
            padding: 0,
            hdr_len: 0,
            ..random(&mut noise)
        };
        // Behind two tags a device leaves nothing undone, and the segments are too many for a socket.
        spec.tags.truncate(1);
        // See `Difference::FitsOneSegment`.
        spec.gso &= spec.payload > usize::from(spec.gso_size);
        spec.needs_csum |= spec.gso;
        let (header, frame) = (spec.header(), spec.frame());
        let blame =
            |what: String| Failed::from(format!("case {number} of seed {seed}: {what}\n{spec:?}"));
        let mut out = Segments::new();
        if offload::segment(&header, &frame, None, &mut out).is_err() {
            continue;
        }
        let expected = whole(&out, &frame);
        // An MTU that makes us cut TCP where its sender would have cut it.
        let size = if spec.gso { spec.gso_size } else { u16::MAX };
        let mtu = spec.headers() - spec.l3() + usize::from(size);
        let mut ours = Vec::new();
        for (frame, segment) in tunnel.carry(&header, &frame).map_err(blame)? {
            let mark = Mark::of(&frame, segment, u32::try_from(mtu).unwrap());
            let kind = match mark {
                Mark::Complete(_) => "complete",
                Mark::Unfinished(header) if header.gso_type == 0 => "unfinished",
                Mark::Unfinished(_) => "superframe",
                Mark::Wrong => "wrong",
                Mark::Unknown | Mark::Unchecked => "unknown",
            };
            *tally.entry(kind).or_default() += 1;
            offload::segment(&mark.header(), &frame, None, &mut out)
                .map_err(|error| blame(error.to_string()))?;
            ours.extend(whole(&out, &frame));
        }
        if ours != expected {
            return Err(blame(describe(&ours, &Ok(expected))));
        }
    }
    for (kind, count) in tally {
        eprintln!("tunnelled: {count:8} {kind}");
    }
    Ok(())
}

/// A recipe whose frames are mostly ordinary, and of a few lengths only.
fn random_recipe(noise: &mut Noise) -> Vec<u8> {
    let byte = |noise: &mut Noise| u8::try_from(noise.below(256)).unwrap();
    let mut recipe: Vec<u8> = (0..recipe::START).map(|_| byte(noise)).collect();
    for _ in 0..2 + noise.below(70) {
        let operation = match noise.below(12) {
            0 => u8::try_from(noise.below(recipe::OPERATIONS.into())).unwrap(),
            1 | 2 => 56,
            3 => [34, 38, 60, 61][usize::try_from(noise.below(4)).unwrap()],
            _ => 0,
        };
        recipe.extend([operation, byte(noise)]);
    }
    recipe
}

struct Case {
    header: VirtioNetHdr,
    frame: Vec<u8>,
    /// What we are told that the way out takes; the kernel gets a `gso_size` to the same effect.
    limit: Option<usize>,
    is_damaged: bool,
    text: String,
}

impl Case {
    /// The header that makes the kernel cut as small as the limit makes us cut.
    fn kernel_header(&self) -> VirtioNetHdr {
        let mut header = self.header;
        if let (Some(limit), GsoType::TcpV4 | GsoType::TcpV6) = (self.limit, header.gso()) {
            let headers = offload::exact_hdr_len(&header, &self.frame).unwrap_or(0);
            let room = low(limit - usize::from(headers));
            header.set_gso_size(header.gso_size().min(room));
        }
        header
    }
}

/// Sends many random cases both ways and compares.
fn campaign(wire: &mut Wire, name: &str, make: impl Fn(&mut Noise) -> Case) -> Result<(), Failed> {
    let (cases, seed) = settings(name);
    let mut seeds = Noise(seed);
    let mut out = Segments::new();
    let mut tally: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..cases {
        let case = make(&mut Noise(seeds.next()));
        let blame = |what: String| {
            Failed::from(format!(
                "case {number} of seed {seed}: {what}\n{:?}\n{}",
                case.header, case.text
            ))
        };
        let size = usize::from(case.kernel_header().gso_size());
        if case.header.gso_type != 0 && size > 0 && case.frame.len() / size >= QUEUE_LEN / 2 {
            *tally
                .entry("not sent, overflows tapB".to_owned())
                .or_default() += 1;
            continue;
        }
        let ours = offload::segment(&case.header, &case.frame, case.limit, &mut out)
            .map(|()| whole(&out, &case.frame));
        let theirs = wire
            .cut(&case.kernel_header(), &case.frame)
            .map_err(blame)?;
        let verdict = compare(&case, ours, &theirs).map_err(blame)?;
        *tally.entry(verdict).or_default() += 1;
    }
    for (verdict, count) in tally {
        eprintln!("{name}: {count:8} {verdict}");
    }
    Ok(())
}

/// Says in what way both agree, or which intended difference it is.
fn compare(
    case: &Case,
    ours: Result<Vec<Vec<u8>>, BadOffload>,
    theirs: &Answer,
) -> Result<String, String> {
    let kernel = match theirs {
        Ok(frames) => frames.as_slice(),
        Err(_) => &[],
    };
    let differs = |difference: Difference| Ok(format!("{difference:?}"));
    match ours {
        Ok(ours) if ours == kernel => Ok(match (ours.len(), case.limit) {
            (1, _) => "same frame".to_owned(),
            (_, None) => "same segments".to_owned(),
            (_, Some(_)) => "same segments below a limit".to_owned(),
        }),
        Ok(ours) if ours.len() == 1 && kernel.is_empty() && fits_one_segment(case, theirs) => {
            differs(Difference::FitsOneSegment)
        }
        Ok(ours) if is_zero_checksum(case, &ours, kernel) => differs(Difference::ZeroChecksum),
        Ok(ours) => Err(describe(&ours, theirs)),
        Err(error) if kernel.is_empty() => Ok(format!("both refuse: {}", kind(error))),
        Err(BadOffload::TooManySegments(_) | BadOffload::HeadersTooLong(_)) => {
            differs(Difference::TooExpensive)
        }
        Err(error) if case.is_damaged => Ok(format!("{:?}: {}", Difference::Stricter, kind(error))),
        Err(error) => Err(format!("we refuse with {error}, the kernel sends frames")),
    }
}

/// The name of the error, without its details.
fn kind(error: BadOffload) -> String {
    let text = format!("{error:?}");
    let end = text.find(['(', '{', ' ']).unwrap_or(text.len());
    text[..end].to_owned()
}

/// Whether the payload is above `gso_size` only by counting options of TCP as payload, or, without
/// a checksum to tell where layer 4 is, everything behind 40 or 60 bytes.
fn fits_one_segment(case: &Case, theirs: &Answer) -> bool {
    theirs.is_ok() && case.header.gso_type != 0 && {
        let headers = offload::exact_hdr_len(&case.header, &case.frame).unwrap_or(0);
        case.frame.len() - usize::from(headers) <= case.header.gso_size().into()
    }
}

fn is_zero_checksum(case: &Case, ours: &[Vec<u8>], kernel: &[Vec<u8>]) -> bool {
    let at = usize::from(case.header.csum_start()) + usize::from(case.header.csum_offset());
    let ([ours], [theirs]) = (ours, kernel) else {
        return false;
    };
    let mut ours = ours.clone();
    case.header.needs_csum() && ours.get(at..at + 2) == Some(&[0, 0]) && {
        ours[at..at + 2].copy_from_slice(&[0xff, 0xff]);
        &ours == theirs
    }
}

fn describe(ours: &[Vec<u8>], theirs: &Answer) -> String {
    let count = ours.len();
    let theirs = match theirs {
        Ok(frames) => frames,
        Err(error) => return format!("we send {count} frames, the kernel refuses: {error}"),
    };
    let mut text = format!("we send {count} frames, the kernel {}", theirs.len());
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        if ours != theirs {
            let at = ours.iter().zip(theirs).position(|(a, b)| a != b);
            let start = at.unwrap_or(0).saturating_sub(4);
            let part = |bytes: &[u8]| {
                format!(
                    "{:02x?}",
                    bytes.iter().skip(start).take(12).collect::<Vec<_>>()
                )
            };
            text += &format!(
                "; frame {i} ({} and {} bytes) differs at {at:?}: ours {}, theirs {} from {start}",
                ours.len(),
                theirs.len(),
                part(ours),
                part(theirs)
            );
            break;
        }
    }
    text
}

/// A superframe as an honest sender could make it, and many that only a strange one would.
fn random(noise: &mut Noise) -> Superframe {
    let mut small = |end: u64| u16::try_from(noise.below(end)).unwrap();
    let udp = small(3) == 0;
    let v6 = small(2) == 0;
    let tags = (0..small(3))
        .map(|_| if small(3) == 0 { 0x88a8 } else { 0x8100 })
        .collect();
    let options = |word: u16| u8::try_from(word.saturating_sub(10)).unwrap();
    let extensions = (0..small(8).saturating_sub(5))
        .map(|_| ([0, 43, 60][usize::from(small(3))], options(small(14))))
        .collect();
    let gso_size = match small(4) {
        0 => 8 + small(100),
        1 => 1 + small(9000),
        _ => 1200 + small(260),
    };
    let payload = match small(4) {
        0 => usize::from(small(300)),
        1 => usize::from(gso_size) * usize::from(small(8)) + usize::from(small(3)),
        _ => usize::from(small(64_900)),
    };
    // Now and then more segments than we allow.
    let most = usize::from(gso_size) * if udp { 129 } else { 2050 };
    let payload = payload.min(most).min(64_900);
    let mut spec = Superframe {
        tags,
        v6,
        udp,
        ip_options: options(small(21)),
        extensions,
        tcp_options: options(small(21)),
        tcp_flags: if small(2) == 0 {
            0x10
        } else {
            u8::try_from(small(256)).unwrap()
        },
        urgent: small(65_536),
        seq: u32::from(small(65_536)) << 16 | u32::from(small(65_536)),
        ip_id: small(65_536),
        traffic_class: u8::try_from(small(256)).unwrap(),
        payload,
        salt: u64::from(small(65_536)),
        gso: small(10) != 0,
        gso_size,
        ecn: !udp && small(4) == 0,
        needs_csum: udp || small(8) != 0,
        hdr_len: 0,
        padding: if small(20) == 0 { small(20).into() } else { 0 },
    };
    if spec.v6 {
        spec.ip_options = 0;
    } else {
        spec.extensions.clear();
    }
    let hints = [0, low(spec.headers()), low(spec.headers() + spec.payload)];
    spec.hdr_len = hints[usize::from(small(3))];
    spec
}

fn low(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

impl Wire {
    /// Moves this process into a fresh network namespace and builds the bridge there.
    fn new() -> Result<Self, String> {
        let tun = Path::new("/dev/net/tun");
        if !tun.exists() {
            return Err("there is no /dev/net/tun".to_owned());
        }
        enter_namespace().map_err(|error| format!("cannot make a network namespace: {error}"))?;
        // Without IPv6 the devices send nothing of their own.
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").ok();
        let offloading = tap::open("tapA", tap::ALL_OFFLOADS).map_err(said("open tapA"))?;
        let plain = tap::open("tapB", 0).map_err(said("open tapB"))?;
        ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        for hook in ["iptables", "ip6tables", "arptables"] {
            // br_netfilter drops malformed IP before it gets to be segmented.
            fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{hook}"), "0").ok();
        }
        for device in ["tapA", "tapB"] {
            ip(&format!(
                "link set {device} mtu 65521 txqueuelen {QUEUE_LEN} master br0 up"
            ))?;
        }
        ip("link set br0 up")?;
        Ok(Self {
            offloading,
            plain,
            sentinels: 0,
        })
    }

    /// What the kernel makes of `frame`.
    fn cut(&mut self, header: &VirtioNetHdr, frame: &[u8]) -> Result<Answer, String> {
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(frame);
        let written = self.offloading.write(&bytes);
        let mut sentinel = vec![0; VirtioNetHdr::LEN];
        sentinel.extend([0xff; 6]);
        sentinel.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
        self.sentinels = self.sentinels.wrapping_add(1);
        sentinel.extend(self.sentinels.to_be_bytes());
        self.offloading
            .write_all(&sentinel)
            .map_err(said("write the sentinel"))?;

        let mut frames = Vec::new();
        loop {
            let frame = self.receive()?;
            if frame == sentinel[VirtioNetHdr::LEN..] {
                break;
            }
            frames.push(frame);
        }
        Ok(written.map(|_| frames))
    }

    fn receive(&mut self) -> Result<Vec<u8>, String> {
        let mut ready = [PollFd::new(self.plain.as_fd(), PollFlags::POLLIN)];
        let count = poll(&mut ready, PollTimeout::from(5000_u16));
        if count.map_err(|error| format!("poll: {error}"))? == 0 {
            return Err("the kernel lost the frame behind the superframe".into());
        }
        let mut buffer = vec![0; 1 << 17];
        let len = self.plain.read(&mut buffer).map_err(said("read tapB"))?;
        let header = VirtioNetHdr::read(&buffer).ok_or("short read")?;
        if !header.is_plain() {
            return Err(format!("tapB left work undone: {header:?}"));
        }
        buffer.truncate(len);
        Ok(buffer.split_off(VirtioNetHdr::LEN))
    }
}

/// As root, a network namespace; otherwise one in a user namespace where we are root.
fn enter_namespace() -> io::Result<()> {
    let (uid, gid) = (getuid(), getgid());
    if Uid::effective().is_root() {
        unshare(CloneFlags::CLONE_NEWNET)?;
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(said("run ip"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {arguments}: {}", text.trim()))
}

fn said(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// The number of cases and the seed, which are also told.
fn settings(name: &str) -> (u64, u64) {
    let cases = setting("TAPSWITCH_OFFLOAD_CASES").unwrap_or(2000);
    let seed = setting("TAPSWITCH_OFFLOAD_SEED").unwrap_or_else(seed_of_the_day);
    eprintln!("{name}: TAPSWITCH_OFFLOAD_SEED={seed} TAPSWITCH_OFFLOAD_CASES={cases}");
    (cases, seed)
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "every run tries other cases, and says which"
)]
fn seed_of_the_day() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(1, |time| {
            u64::from(time.subsec_nanos()) ^ time.as_secs() << 30
        })
}

/// Just enough of a TAP for this test.
#[expect(unsafe_code, reason = "the ioctls of /dev/net/tun")]
mod tap {
    use std::{
        fs::{File, OpenOptions},
        io,
        os::fd::AsRawFd,
    };

    use nix::libc;
    use tapswitch::wire::VirtioNetHdr;

    nix::ioctl_write_ptr_bad!(
        set_iff,
        nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
        libc::ifreq
    );
    nix::ioctl_write_ptr!(set_header_len, b'T', 216, libc::c_int);
    nix::ioctl_write_int!(set_offload, b'T', 208);

    /// CSUM, TSO4, TSO6, TSO_ECN, USO4 and USO6.
    pub(crate) const ALL_OFFLOADS: u64 = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40;

    /// A TAP named `name` with virtio-net headers.
    pub(crate) fn open(name: &str, offloads: u64) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        let mut flags = 0;
        for flag in [libc::IFF_TAP, libc::IFF_NO_PI, libc::IFF_VNET_HDR] {
            flags |= libc::c_short::try_from(flag).map_err(io::Error::other)?;
        }
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
        };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::try_from(from).map_err(io::Error::other)?;
        }
        let header_len = libc::c_int::try_from(VirtioNetHdr::LEN).map_err(io::Error::other)?;
        let fd = file.as_raw_fd();
        // SAFETY: `fd` is open, and `request` is an initialised ifreq that outlives the call.
        unsafe { set_iff(fd, &raw const request) }?;
        // SAFETY: `fd` is open, and the kernel reads one int.
        unsafe { set_header_len(fd, &raw const header_len) }?;
        // SAFETY: `fd` is open, and the argument is a plain number.
        unsafe { set_offload(fd, offloads) }?;
        Ok(file)
    }
}
