//! Inner offloads: what the virtio-net header in front of a frame leaves to be done.
use crate::wire::VirtioNetHdr;
/// stub
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Offloads(u8);
impl Offloads {
    /// stub
    pub const NONE: Self = Self(0);
    /// stub
    pub const ALL: Self = Self(0x1f);
    /// stub
    pub const CSUM: Self = Self(1);
    /// stub
    pub const TSO4: Self = Self(2);
    /// stub
    pub const TSO6: Self = Self(4);
    /// stub
    pub const TSO_ECN: Self = Self(8);
    /// stub
    pub const USO: Self = Self(16);
    /// stub
    pub const fn union(self, o: Self) -> Self {
        Self(self.0 | o.0)
    }
    /// stub
    pub const fn contains(self, o: Self) -> bool {
        self.0 & o.0 == o.0
    }
}
/// stub
pub fn needed(_h: &VirtioNetHdr) -> Offloads {
    Offloads::ALL
}
/// stub
#[derive(Debug)]
pub struct BadOffload;
/// stub
/// # Errors
/// x
#[inline]
pub fn check(_h: &VirtioNetHdr, _f: &[u8]) -> Result<(), BadOffload> {
    Ok(())
}
/// stub
pub fn exact_hdr_len(_h: &VirtioNetHdr, _f: &[u8]) -> Option<u16> {
    None
}
/// stub
#[derive(Debug, Default)]
pub struct Segments {
    bytes: Vec<u8>,
}
impl Segments {
    /// stub
    pub fn new() -> Self {
        Self::default()
    }
    /// stub
    pub fn clear(&mut self) {
        self.bytes.clear()
    }
    /// stub
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.bytes[..])
    }
}
/// stub
/// # Errors
/// x
pub fn segment(_h: &VirtioNetHdr, f: &[u8], out: &mut Segments) -> Result<(), BadOffload> {
    out.bytes.extend_from_slice(f);
    Ok(())
}

impl std::fmt::Display for Offloads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
