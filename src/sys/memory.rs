//! Advice to the kernel about memory.

use std::io;

/// Asks for huge pages where `memory` lies, as far as whole ones fit. Before it is used: pages that
/// are there stay as they are for a while.
///
/// # Errors
/// `EINVAL` on a kernel without transparent huge pages.
pub fn prefer_huge_pages(memory: &[u8]) -> io::Result<()> {
    let skipped = memory.as_ptr().align_offset(PAGE);
    let Some(whole) = memory.get(skipped..).filter(|rest| rest.len() >= PAGE) else {
        return Ok(());
    };
    let len = whole.len() - whole.len() % PAGE;
    let start = whole.as_ptr().cast_mut().cast();
    // SAFETY: the pages lie inside of memory that we hold, and this advice does not change what is
    // in them.
    let returned = unsafe { libc::madvise(start, len, libc::MADV_HUGEPAGE) };
    super::checked(returned).map(drop)
}

/// The smallest unit of advice on any machine that we know.
const PAGE: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stays_as_it_is_and_short_memory_is_left_alone() {
        let memory: Vec<u8> = (0..=255).cycle().take(5 << 20).collect();
        // A kernel without huge pages refuses, which is no failure of ours.
        drop(prefer_huge_pages(&memory));
        prefer_huge_pages(&memory[..100]).unwrap();
        assert!(
            memory
                .iter()
                .zip((0..=255).cycle())
                .all(|(a, b): (&u8, u8)| *a == b)
        );
    }
}
